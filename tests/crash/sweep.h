// The crash sweep: one operation, with its n-th system call failing (EIO, ENOSPC) and with SIGKILL
// at the n-th, for all n until it gets through. After each, what was worked on is opened again, and
// the operation must be wholly done or wholly absent, with no descriptor left open.
//
// New failpoints are swept without a change here.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "tests/support/tree.h"

namespace veneer::test {

// What can be seen of the thing that is worked on: anything that two of the same have the same.
using State = std::map<std::string, std::map<std::string, std::string>>;

struct Swept {
  // Makes the thing in an empty directory. It need not be durable.
  std::function<void(const Scratch&)> prepare;
  // Opens it, calls `arm`, and operates; the closing is swept, too.
  std::function<void(const Scratch&, const std::function<void()>& arm)> operate;
  // Opens it, expects that nothing is left over, and closes it. May put right what an operation
  // that was cut off may leave by its contract. `was_killed`: by SIGKILL, just now.
  std::function<State(const Scratch&, bool was_killed)> observe;
  // Undoes what outlives the process and the directory: mounts.
  std::function<void(const Scratch&)> clean_up = [](const Scratch&) {};
};

void sweep(const Swept& swept);

}  // namespace veneer::test
