#include "mount/erofs.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <string>

#include "base/at.h"
#include "base/error.h"
#include "mount/fs_context.h"
#include "mount/mount.h"

namespace veneer {

namespace {

// A file as fsconfig() can name it while this lives.
class NamedFile {
 public:
  NamedFile(int dir, PathView path)
      : fd_(open_at(dir, path, O_PATH | O_NOFOLLOW)), name_(path_of(fd_.get())) {
    if (name_.size() > kFsOptionBytes) name_ = fmt::format("/proc/self/fd/{}", fd_.get());
  }
  const std::string& name() const { return name_; }

 private:
  UniqueFd fd_;
  std::string name_;
};

}  // namespace

UniqueFd mount_erofs(int dir, const ErofsFiles& files) {
  const NamedFile index(dir, files.index);
  const NamedFile device(dir, files.device);
  FsContext context("erofs");
  context.set("source", index.name());
  context.set("device", device.name());
  context.set_flag("ro");
  switch (const int error_number = context.try_create()) {
    case 0:
      return context.mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                           MOUNT_ATTR_NOEXEC);
    case ENOTBLK:
      fail(Code::unsupported,
           "file-backed EROFS mounts do not work for {} on {}: they need Linux 6.12 "
           "(CONFIG_EROFS_FS_BACKED_BY_FILE) and a file system such as ext4, xfs or btrfs",
           index.name(), file_system_name(file_system_magic_at(dir, files.index)));
    case EBADMSG:
    case EUCLEAN:
      fail(Code::corrupt, "mount erofs: {} is damaged: {}", index.name(), context.messages());
    default:
      context.fail_with(error_number, index.name());
  }
}

}  // namespace veneer
