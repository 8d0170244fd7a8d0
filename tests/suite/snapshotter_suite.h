// What every snapshotter must do, as one function over a factory: run on the store itself, and
// through a socket. The tests mount what they are told to, as a client does, with mount(2).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/at.h"
#include "store/snapshotter.h"

namespace veneer::test {

// Opens the snapshotter on <scratch>/root and <scratch>/run: a new one the first time, the same
// later, also while an earlier one lives.
using SnapshotterFactory = std::function<std::shared_ptr<Snapshotter>(const std::string& scratch)>;

// Registers the suite's tests under `name`. Call it before RUN_ALL_TESTS().
void register_snapshotter_suite(const std::string& name, const SnapshotterFactory& open);

// A client's mount of what a snapshotter said, unmounted at the end of its life.
class ClientMount {
 public:
  // Makes the mount point, a new directory at `target`.
  ClientMount(const std::vector<Mount>& mounts, const std::string& target);
  ClientMount(const ClientMount&) = delete;
  ClientMount& operator=(const ClientMount&) = delete;
  ~ClientMount();
  int dir() const { return dir_.get(); }

 private:
  std::string target_;
  UniqueFd dir_;
};

}  // namespace veneer::test
