#include "graphdriver/staging.h"

#include <exception>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/lock.h"
#include "mount/mount.h"

namespace veneer {

Staging::Staging(int dir, std::string_view prefix) : dir_(dir) {
  LockedDir made = make_locked_dir(dir_, prefix);
  name_ = std::move(made.name);
  fd_ = std::move(made.fd);
}

Staging::~Staging() {
  if (!fd_) return;
  try {
    remove();
  } catch (const std::exception&) {
    // The error that led here is the one to report; remove_stale() gets what is left.
  }
}

void Staging::publish(int to_dir, PathView name) {
  failpoint::point("staging.before_publish");
  rename_at(dir_, name_, to_dir, name);
  fd_.reset();
  failpoint::point("staging.after_publish");
}

void Staging::remove() {
  (void)remove_tree_at(dir_, name_);
  fd_.reset();
}

void remove_via_staging(int staging_dir, int from_dir, PathView name) {
  const UniqueFd directory = open_dir_at(from_dir, name);
  (void)try_lock_fd(directory.get());  // remove_stale() leaves it to us
  const RelPath removed = RelPath::parse_name(random_name(), "name");
  rename_at(from_dir, name, staging_dir, removed);
  (void)remove_tree_and_mounts_at(staging_dir, removed);
}

void remove_stale(int dir, std::string_view prefix) {
  for (const std::string& name : list_dir(dir)) {
    if (!name.starts_with(prefix)) continue;
    const RelPath path = RelPath::parse_name(name, "name");
    const auto fd = maybe_open_dir_at(dir, path);
    if (!fd || !try_lock_fd(fd->get())) continue;
    try {
      (void)remove_tree_and_mounts_at(dir, path);
    } catch (const Error&) {
      // An immutable file, say. It stays for a later try; nobody waits for this.
    }
  }
}

}  // namespace veneer
