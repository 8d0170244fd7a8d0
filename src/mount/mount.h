// Mounts as values, and the few calls that make and unmake them.
//
// Mounts are built detached (fsopen, fsconfig, fsmount: Linux 5.2) and moved into place; closing
// the descriptor is the undo. Errors carry what the kernel says through the fs context's message
// log. Sources: mount_api man pages (fsopen(2), fsconfig(2), fsmount(2), move_mount(2), umount(2)).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
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

// A detached copy of the mount that `path` lies on, with `path` as its root; mounts below it are
// left out (open_tree(2) OPEN_TREE_CLONE).
UniqueFd clone_mount(int dir, PathView path);

// Makes a mount refuse writes; its file system, and other mounts of it, stay as they are
// (mount_setattr(2): Linux 5.12).
void make_read_only(int mount);

// Moves a detached mount onto `target` (a directory of ours: dirfd and path). While `mount` is open
// it keeps the mount busy: close it before a plain unmount.
void attach_mount(int mount, int dir, PathView target);

// Unmounts what is mounted on `target` (the topmost, if mounts are stacked), never following a link
// there. False if nothing is, or if there is no such path. `detach`: MNT_DETACH, for what is busy.
// Throws failed_precondition for EBUSY, if that is still so after a tenth of a second.
enum class Unmount { now, detach };
bool unmount_at(int dir, PathView target, Unmount how = Unmount::now);

// As remove_tree_at() (base/at.h), and mounts in the tree are detached, not followed.
bool remove_tree_and_mounts_at(int dir, PathView path);

// What `build` returns, a detached mount. It is called on a thread that has a mount namespace of
// its own: what it mounts is seen by nobody else, and goes with the thread.
UniqueFd build_unseen(const std::function<UniqueFd()>& build);

// True if `path` is the root of a mount (statx STATX_ATTR_MOUNT_ROOT: Linux 5.8); false if it is
// not there.
bool is_mount_point_at(int dir, PathView path);
// What statfs(2) calls f_type: linux/magic.h, and for file systems outside the kernel their own
// sources.
namespace magic {
inline constexpr uint64_t kNineP = 0x01021997;
inline constexpr uint64_t kAufs = 0x61756673;
inline constexpr uint64_t kBcachefs = 0xca451a4e;
inline constexpr uint64_t kBtrfs = 0x9123683e;
inline constexpr uint64_t kCeph = 0x00c36400;
inline constexpr uint64_t kCifs = 0xff534d42;
inline constexpr uint64_t kCramfs = 0x28cd3d45;
inline constexpr uint64_t kEcryptfs = 0x0000f15f;
inline constexpr uint64_t kErofs = 0xe0f5e1e2;
inline constexpr uint64_t kExfat = 0x2011bab0;
inline constexpr uint64_t kExt4 = 0x0000ef53;  // ext2 and ext3 too
inline constexpr uint64_t kF2fs = 0xf2f52010;
inline constexpr uint64_t kFuse = 0x65735546;
inline constexpr uint64_t kGfs2 = 0x01161970;
inline constexpr uint64_t kGpfs = 0x47504653;
inline constexpr uint64_t kHfsplus = 0x0000482b;
inline constexpr uint64_t kIso9660 = 0x00009660;
inline constexpr uint64_t kJffs2 = 0x000072b6;
inline constexpr uint64_t kJfs = 0x3153464a;
inline constexpr uint64_t kLustre = 0x0bd00bd0;
inline constexpr uint64_t kNfs = 0x00006969;
inline constexpr uint64_t kNilfs2 = 0x00003434;
inline constexpr uint64_t kNtfs3 = 0x7366746e;
inline constexpr uint64_t kOcfs2 = 0x7461636f;
inline constexpr uint64_t kOverlay = 0x794c7630;
inline constexpr uint64_t kProc = 0x00009fa0;
inline constexpr uint64_t kRamfs = 0x858458f6;
inline constexpr uint64_t kReiserfs = 0x52654973;
inline constexpr uint64_t kSmb = 0x0000517b;
inline constexpr uint64_t kSmb2 = 0xfe534d42;
inline constexpr uint64_t kSquashfs = 0x73717368;
inline constexpr uint64_t kSysfs = 0x62656572;
inline constexpr uint64_t kTmpfs = 0x01021994;
inline constexpr uint64_t kUdf = 0x15013346;
inline constexpr uint64_t kVfat = 0x00004d44;
inline constexpr uint64_t kVxfs = 0xa501fcf5;
inline constexpr uint64_t kXfs = 0x58465342;
inline constexpr uint64_t kZfs = 0x2fc12fc1;
}  // namespace magic

// The file system magic there (statfs f_type).
uint64_t file_system_magic_at(int dir, PathView path);
// Whether the file system of an open directory (ext4, xfs) has one journal for all names and
// attributes, in order: what is synced makes durable all that was changed before it.
bool journals_in_order(int dir);
// "ext4", "xfs", ... of a magic number; "unknown (0x...)" else.
std::string file_system_name(uint64_t magic);

// Unmounts at the end of its life unless release()d. Made after attach_mount().
class MountGuard {
 public:
  MountGuard(int dir, RelPath target);  // dir is duplicated
  MountGuard(MountGuard&&) noexcept;
  ~MountGuard();   // detaches, never throws
  void unmount();  // now; throws
  void release();

 private:
  UniqueFd dir_;
  RelPath target_;
  bool mounted_ = true;
};

}  // namespace veneer
