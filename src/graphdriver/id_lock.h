// One lock and one mount count for each layer id, for all threads and processes of a machine.
//
// Both are one file, <run>/<driver>/<hash of home>/<id>: flock(2) on it is the lock, its text the
// count. It lies in <run> because it must end with the mounts, at a reboot.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/lock.h"
#include "base/path.h"

namespace veneer {

// A layer's id as a name. Throws invalid_argument for one that no driver takes.
RelPath parse_id(std::string_view id);

class IdLock {
 public:
  using Mode = Lock;

  // How often the layer was got and not yet put. 0 for a file without a number: a crash while it
  // was written, and the mount then tells (see overlay.h).
  uint64_t count() const;
  // Needs the exclusive lock. Not synced: a reboot ends the mounts too.
  void set_count(uint64_t count);
  // Removes the file; for a layer that is gone. Needs the exclusive lock, which stays held.
  void forget();

 private:
  friend class IdLocks;
  IdLock(UniqueFd file, int dir, RelPath id)
      : file_(std::move(file)), dir_(dir), id_(std::move(id)) {}

  UniqueFd file_;  // closing it unlocks
  int dir_;        // borrowed from IdLocks
  RelPath id_;
};

class IdLocks {
 public:
  // Makes <run>/<driver>/<hash of home>, 0700.
  IdLocks(const std::string& run, std::string_view driver, const std::string& home);

  // Waits for it. Whoever takes two takes them in the order of their ids.
  IdLock lock(const RelPath& id, IdLock::Mode mode) const;

 private:
  UniqueFd dir_;
};

}  // namespace veneer
