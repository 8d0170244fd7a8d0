// Mounts as values, and the few calls that make and unmake them.
//
// Mounts are built detached (fsopen, fsconfig, fsmount: Linux 5.2) and moved into place; closing the
// descriptor is the undo. Errors carry what the kernel says through the fs context's message log.
// Sources: mount_api man pages (fsopen(2), fsconfig(2), fsmount(2), move_mount(2), umount(2)).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/path.h"

namespace veneer {

// What a client is told to mount, in mount(8)'s words: containerd's Mount.
struct Mount {
  std::string type;
  std::string source;
  std::vector<std::string> options;
  bool operator==(const Mount&) const = default;
};

// Moves a detached mount onto `target` (a directory of ours: dirfd and path).
void attach_mount(int mount, int dir, PathView target);

// Unmounts what is mounted on `target`, never following a link there. False if nothing is.
// `detach`: MNT_DETACH, for what is busy. Throws failed_precondition for EBUSY.
enum class Unmount { now, detach };
bool unmount_at(int dir, PathView target, Unmount how = Unmount::now);

// True if `path` is the root of a mount (statx STATX_ATTR_MOUNT_ROOT: Linux 5.8).
bool is_mount_point_at(int dir, PathView path);
// The file system magic there (statfs f_type).
uint64_t file_system_magic_at(int dir, PathView path);
// "ext4", "xfs", ... of a magic number; "unknown (0x...)" else.
std::string file_system_name(uint64_t magic);

// Unmounts at the end of its life unless release()d. Made after attach_mount().
class MountGuard {
 public:
  MountGuard(int dir, RelPath target);  // dir is duplicated
  MountGuard(MountGuard&&) noexcept;
  ~MountGuard();  // detaches, never throws
  void unmount();  // now; throws
  void release();

 private:
  UniqueFd dir_;
  RelPath target_;
  bool mounted_ = true;
};

}  // namespace veneer
