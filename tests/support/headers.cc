// The headers that all tests have, compiled once: see cmake/veneer.cmake.
