// Points in time as the store keeps them.
#pragma once

#include <chrono>

namespace veneer {

using Time = std::chrono::sys_time<std::chrono::nanoseconds>;

inline Time now() {
  return std::chrono::system_clock::now();
}

}  // namespace veneer
