#include "base/lock.h"

#include <sys/file.h>

#include "base/at.h"
#include "base/error.h"

namespace veneer {

namespace {

// False for EWOULDBLOCK.
bool flock_fd(int fd, int operation) {
  while (::flock(fd, operation) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) fail_errno(errno, "flock {}", path_of(fd));
  }
  return true;
}

}  // namespace

void lock_fd(int fd, Lock lock) {
  (void)flock_fd(fd, lock == Lock::exclusive ? LOCK_EX : LOCK_SH);  // true: it waits
}

bool try_lock_fd(int fd) {
  return flock_fd(fd, LOCK_EX | LOCK_NB);
}

void unlock_fd(int fd) noexcept {
  (void)::flock(fd, LOCK_UN);  // cannot fail for a descriptor that is open
}

}  // namespace veneer
