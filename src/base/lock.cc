#include "base/lock.h"

#include <sys/file.h>

#include <optional>
#include <utility>

#include "base/at.h"
#include "base/error.h"

namespace veneer {

namespace {

// Each may meet another process that empties the directory; that all do is no accident.
constexpr int kMakingAttempts = 100;

// False for EWOULDBLOCK.
bool flock_fd(int fd, int operation) {
  while (::flock(fd, operation) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) fail_errno(errno, "flock {}", path_of(fd));
  }
  return true;
}

// No descriptor if a remover was quicker.
UniqueFd try_make_locked(int dir, const RelPath& name) {
  try {
    make_dir_at(dir, name, 0700);
  } catch (const SysError& error) {
    // It looks at what it has made, for the umask.
    if (error.error_number() != ENOENT) throw;
    return {};
  }
  std::optional<UniqueFd> made = maybe_open_dir_at(dir, name);
  if (!made || !try_lock_fd(made->get()) || !exists_at(dir, name)) return {};
  return std::move(*made);
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

LockedDir make_locked_dir(int dir, std::string_view prefix) {
  for (int attempt = 0; attempt < kMakingAttempts; ++attempt) {
    RelPath name = RelPath::parse_name(fmt::format("{}{}", prefix, random_name()), "name");
    if (UniqueFd fd = try_make_locked(dir, name)) return {std::move(name), std::move(fd)};
  }
  fail(Code::unavailable, "{}: new directories do not stay", path_of(dir));
}

}  // namespace veneer
