#include "mount/mount.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <string_view>
#include <thread>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/failpoint.h"

namespace veneer {

namespace {

struct Name {
  uint64_t magic;
  std::string_view name;
};

constexpr Name kNames[] = {
    {magic::kNineP, "9p"},          {magic::kAufs, "aufs"},         {magic::kBcachefs, "bcachefs"},
    {magic::kBtrfs, "btrfs"},       {magic::kCeph, "ceph"},         {magic::kCifs, "cifs"},
    {magic::kCramfs, "cramfs"},     {magic::kEcryptfs, "ecryptfs"}, {magic::kErofs, "erofs"},
    {magic::kExfat, "exfat"},       {magic::kExt4, "ext4"},         {magic::kF2fs, "f2fs"},
    {magic::kFuse, "fuse"},         {magic::kGfs2, "gfs2"},         {magic::kGpfs, "gpfs"},
    {magic::kHfsplus, "hfsplus"},   {magic::kIso9660, "iso9660"},   {magic::kJffs2, "jffs2"},
    {magic::kJfs, "jfs"},           {magic::kLustre, "lustre"},     {magic::kNfs, "nfs"},
    {magic::kNilfs2, "nilfs2"},     {magic::kNtfs3, "ntfs3"},       {magic::kOcfs2, "ocfs2"},
    {magic::kOverlay, "overlay"},   {magic::kProc, "proc"},         {magic::kRamfs, "ramfs"},
    {magic::kReiserfs, "reiserfs"}, {magic::kSmb, "smb"},           {magic::kSmb2, "smb2"},
    {magic::kSquashfs, "squashfs"}, {magic::kSysfs, "sysfs"},       {magic::kTmpfs, "tmpfs"},
    {magic::kUdf, "udf"},           {magic::kVfat, "vfat"},         {magic::kVxfs, "vxfs"},
    {magic::kXfs, "xfs"},           {magic::kZfs, "zfs"},
};

// Whoever looks at a mount (stat, or a path that leads through it) keeps it busy for that moment.
constexpr int kBusyAttempts = 20;
constexpr std::chrono::milliseconds kBetweenAttempts{5};

// umount2() has no dirfd; the link in /proc names the directory without a race.
int raw_unmount(int dir, PathView target, int flags) {
  const std::string path = fmt::format("/proc/self/fd/{}/{}", dir, target.c_str());
  for (int attempts = 1;; ++attempts) {
    const int result = ::umount2(path.c_str(), UMOUNT_NOFOLLOW | flags);
    if (result == 0 || errno != EBUSY || attempts == kBusyAttempts) return result;
    std::this_thread::sleep_for(kBetweenAttempts);
  }
}

}  // namespace

UniqueFd clone_mount(int dir, PathView path) {
  failpoint::point("open_tree");
  return UniqueFd(check(
      ::open_tree(dir, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW),
      "open_tree {}", path.c_str()));
}

UniqueFd build_unseen(const std::function<UniqueFd()>& build) {
  const auto build_here = [&] {
    check(::unshare(CLONE_NEWNS), "unshare CLONE_NEWNS");
    check(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make / private");
    return build();
  };
  return std::async(std::launch::async, build_here).get();
}

void make_read_only(int mount) {
  failpoint::point("mount_setattr");
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  check(::mount_setattr(mount, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)),
        "mount_setattr read-only");
}

void attach_mount(int mount, int dir, PathView target) {
  failpoint::point("move_mount");
  check(::move_mount(mount, "", dir, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH), "move_mount to {}",
        target.c_str());
}

bool unmount_at(int dir, PathView target, Unmount how) {
  failpoint::point("umount2");
  if (raw_unmount(dir, target, how == Unmount::detach ? MNT_DETACH : 0) == 0) return true;
  const int error_number = errno;
  if (error_number == ENOENT || error_number == ENOTDIR) return false;
  if (error_number == EBUSY)
    fail(Code::failed_precondition, "umount {}: it is in use", target.c_str());
  // EINVAL is also what a locked mount in a user namespace gives.
  if (error_number == EINVAL && !is_mount_point_at(dir, target)) return false;
  fail_errno(error_number, "umount {}", target.c_str());
}

bool remove_tree_and_mounts_at(int dir, PathView path) {
  return remove_tree_at(dir, path, [](int parent, PathView name) {
    return unmount_at(parent, name, Unmount::detach);
  });
}

bool is_mount_point_at(int dir, PathView path) {
  struct statx status{};
  if (::statx(dir, path.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, 0, &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    fail_errno(errno, "statx {}", path.c_str());
  }
  if ((status.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) == 0)
    fail(Code::unsupported, "statx does not tell mount points: Linux 5.8 or later is needed");
  return (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

uint64_t file_system_magic_at(int dir, PathView path) {
  const UniqueFd fd = open_at(dir, path, O_PATH | O_NOFOLLOW);
  struct statfs status{};
  check(::fstatfs(fd.get(), &status), "statfs {}", path.c_str());
  // f_type is signed, and 32 bits wide on some machines.
  return static_cast<uint32_t>(status.f_type);
}

bool journals_in_order(int dir) {
  const uint64_t type = file_system_magic_at(dir, ".");
  return type == magic::kExt4 || type == magic::kXfs;
}

std::string file_system_name(uint64_t magic) {
  const Name* const found = std::ranges::find(kNames, magic, &Name::magic);
  return found == std::end(kNames) ? fmt::format("unknown (0x{:x})", magic)
                                   : std::string(found->name);
}

MountGuard::MountGuard(int dir, RelPath target) : dir_(dup_fd(dir)), target_(std::move(target)) {}

MountGuard::MountGuard(MountGuard&& other) noexcept
    : dir_(std::move(other.dir_)),
      target_(std::move(other.target_)),
      mounted_(std::exchange(other.mounted_, false)) {}

MountGuard::~MountGuard() {
  // Nobody is left to tell of a failure.
  if (mounted_) (void)raw_unmount(dir_.get(), target_, MNT_DETACH);
}

void MountGuard::unmount() {
  if (!mounted_) return;
  (void)unmount_at(dir_.get(), target_);  // false: someone else unmounted it, which is as good
  mounted_ = false;
}

void MountGuard::release() {
  mounted_ = false;
}

}  // namespace veneer
