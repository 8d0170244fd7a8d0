// flock(2): who works on a file or directory, in whatever process. A lock is the open file
// description's: it goes with the last descriptor of it, also when the process dies.
#pragma once

#include <string_view>

#include "base/fd.h"
#include "base/path.h"

namespace veneer {

enum class Lock { shared, exclusive };

// Waits for those in the way. Throws SysError.
void lock_fd(int fd, Lock lock = Lock::exclusive);

// The exclusive lock; false if somebody is in the way.
bool try_lock_fd(int fd);

// Before the descriptor goes.
void unlock_fd(int fd) noexcept;

// A directory of one's own, locked: others that remove what nobody has locked leave it alone.
struct LockedDir {
  RelPath name;
  UniqueFd fd;
};
// Makes <dir>/<prefix><random>, 0700. Another one if a remover came between its making and its
// locking; unavailable if that goes on and on.
LockedDir make_locked_dir(int dir, std::string_view prefix);

}  // namespace veneer
