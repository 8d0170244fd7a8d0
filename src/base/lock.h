// flock(2): who works on a file or directory, in whatever process. A lock is the open file
// description's: it goes with the last descriptor of it, also when the process dies.
#pragma once

namespace veneer {

enum class Lock { shared, exclusive };

// Waits for those in the way. Throws SysError.
void lock_fd(int fd, Lock lock = Lock::exclusive);

// The exclusive lock; false if somebody is in the way.
bool try_lock_fd(int fd);

// Before the descriptor goes.
void unlock_fd(int fd) noexcept;

}  // namespace veneer
