#include "mount/idmap.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "base/at.h"
#include "base/error.h"
#include "base/fd.h"

namespace veneer {

namespace {

// A child in a user namespace of its own. It ends at once: what is left of it until it is waited
// for still names the namespace in /proc, so there is nothing to stop and nothing that can outlive
// us.
class NamespaceHolder {
 public:
  // No exit signal: nothing else in this process sees the child (waitpid(-1) does not either).
  NamespaceHolder()
      : pid_(
            static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWUSER, nullptr, nullptr, nullptr, 0))) {
    if (pid_ == 0) ::_exit(0);
    check(pid_, "clone CLONE_NEWUSER");
  }
  NamespaceHolder(const NamespaceHolder&) = delete;
  NamespaceHolder& operator=(const NamespaceHolder&) = delete;
  ~NamespaceHolder() {
    while (::waitpid(pid_, nullptr, __WALL) < 0 && errno == EINTR) continue;
  }

  UniqueFd open(const char* file, int flags) const {
    return open_root(fmt::format("/proc/{}/{}", pid_, file), flags);
  }

 private:
  pid_t pid_;
};

void write_map(const UniqueFd& file, const IdMap& map) {
  std::string text;
  for (const IdRange& range : map.ranges())
    text += fmt::format("{} {} {}\n", range.container, range.host, range.size);
  if (text.empty()) text = "0 0 4294967295\n";
  // The kernel takes a map in one write or not at all (user_namespaces(7)).
  check(::write(file.get(), text.data(), text.size()), "write id map of {} ranges",
        map.ranges().size());
}

UniqueFd open_user_namespace(const IdMaps& maps) {
  const NamespaceHolder holder;
  write_map(holder.open("uid_map", O_WRONLY), maps.uids);
  write_map(holder.open("gid_map", O_WRONLY), maps.gids);
  return holder.open("ns/user", O_RDONLY);
}

}  // namespace

void idmap_mount(int mount, const IdMaps& maps) {
  if (maps.is_identity()) return;
  const UniqueFd space = open_user_namespace(maps);
  mount_attr change{};
  change.attr_set = MOUNT_ATTR_IDMAP;
  change.userns_fd = static_cast<__u64>(space.get());
  if (::mount_setattr(mount, "", AT_EMPTY_PATH | AT_RECURSIVE, &change, sizeof(change)) == 0)
    return;
  const int error_number = errno;
  if (error_number == EINVAL)
    fail(Code::unsupported,
         "mount_setattr MOUNT_ATTR_IDMAP: not on this file system and kernel, or "
         "the mount is attached already");
  fail_errno(error_number, "mount_setattr MOUNT_ATTR_IDMAP");
}

}  // namespace veneer
