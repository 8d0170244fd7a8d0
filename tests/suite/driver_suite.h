// What every graph driver must do, as one function over a factory: run on a driver itself, and
// later through a socket.
#pragma once

#include <functional>
#include <memory>

#include "graphdriver/driver.h"

namespace veneer::test {

// Opens the driver on <scratch>/home and <scratch>/run: a new one the first time, the same later.
using DriverFactory = std::function<std::unique_ptr<Driver>(const std::string& scratch)>;

// Registers the suite's tests under `name`. Call it before RUN_ALL_TESTS().
void register_driver_suite(const std::string& name, const DriverFactory& open);

}  // namespace veneer::test
