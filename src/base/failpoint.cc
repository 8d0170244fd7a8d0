#include "base/failpoint.h"

#include <csignal>

#include "base/error.h"

namespace veneer::failpoint {

namespace {
std::atomic<uint64_t> hits = 0;
Plan current;
}  // namespace

void arm(const Plan& plan) {
  current = plan;
  hits = 0;
  internal::armed = true;
}

uint64_t disarm() {
  internal::armed = false;
  return hits;
}

int internal::hit_armed(const char* name) {
  if (!current.name.empty() && current.name != name) return 0;
  if (++hits != current.at) return 0;
  if (current.error_number == 0) (void)std::raise(SIGKILL);
  return current.error_number;
}

void point(const char* name) {
  if (const int error_number = hit(name)) fail_errno(error_number, "failpoint {}", name);
}

}  // namespace veneer::failpoint
