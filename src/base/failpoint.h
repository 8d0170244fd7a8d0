// Places where a test can make an operation fail or die.
//
// Every system call of base/ that changes something, and each side of every commit point, asks
// hit(). Disarmed, that is one relaxed load. Armed, the n-th hit of the process fails with an errno
// or kills it: the crash sweep runs an operation for n = 1, 2, ... until it gets through.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

namespace veneer::failpoint {

struct Plan {
  uint64_t at = 0;             // 1 is the first hit after arm()
  int error_number = 0;        // the errno to fail with; 0 kills the process with SIGKILL
  std::string_view name = {};  // only hits of this name count; empty: all
};

void arm(const Plan& plan);
// Returns how many hits there were since arm().
uint64_t disarm();

namespace internal {
inline std::atomic<bool> armed = false;
int hit_armed(const char* name);
}  // namespace internal

// Returns the errno to fail with, or 0 to go on. `name` is for the reader and for debuggers.
inline int hit(const char* name) {
  return internal::armed.load(std::memory_order_relaxed) ? internal::hit_armed(name) : 0;
}

// hit() for places that are not a system call: throws a SysError.
void point(const char* name);

}  // namespace veneer::failpoint
