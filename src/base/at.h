// Every system call on files: directory descriptor first, path second.
//
// The path of each call is a PathView, so it is relative and holds no "..". Except
// resolve_in_root(), no call follows a symbolic link in the last component; intermediate components
// are followed as the kernel does, so callers pass single names, or paths of directories that are
// Veneer's own. All throw SysError that names the call and the path; the maybe_ ones return nothing
// for ENOENT (and ENOTDIR: a parent that is not a directory holds nothing). Each call that changes
// something is a failpoint. Descriptors are O_CLOEXEC.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/path.h"

namespace veneer {

using Bytes = std::span<const std::byte>;

// --- opening ---------------------------------------------------------------------------------

// An absolute or working-directory path, from a person or a configuration: the one way in.
UniqueFd open_root(const std::string& path, int flags = O_RDONLY | O_DIRECTORY);
// Opens a directory by absolute path and makes it if it is not there, with exactly `mode`; missing
// directories above it get 0711. Says whether it was made.
struct OpenedDir {
  UniqueFd fd;
  bool is_new = false;
};
OpenedDir open_or_make_root(const std::string& path, mode_t mode);
// The directory, or the nearest one above it that is there.
UniqueFd open_nearest_root(const std::string& path);
// Random lower-case hex, for names that must not clash.
std::string random_name();
// The absolute, resolved path of an open directory (through /proc/self/fd).
std::string path_of(int fd);

// ENOSPC, EDQUOT.
bool is_about_room(int error_number);
// "/var/lib/veneer/staging has 0 KiB and 12 inodes left": `path`, called `shown`. What the errors
// of calls that find no room begin with.
std::string describe_room(const std::string& path, const std::string& shown);

// O_NOFOLLOW is added, unless O_PATH is among the flags, where it is the caller's choice.
UniqueFd open_at(int dir, PathView path, int flags, mode_t mode = 0);
std::optional<UniqueFd> maybe_open_at(int dir, PathView path, int flags);
UniqueFd open_dir_at(int dir, PathView path);
std::optional<UniqueFd> maybe_open_dir_at(int dir, PathView path);
// Opens what `path` means to a process whose root is `root`: links are followed, never out of it
// (openat2 RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS). Nothing for ENOENT and ENOTDIR.
// EAGAIN if the kernel is not sure of the way after many attempts.
std::optional<UniqueFd> maybe_resolve_in_root(int root, PathView path, int flags);
// The same without links: nothing for ENOENT, ENOTDIR and when a component is a link.
std::optional<UniqueFd> maybe_resolve_beneath(int root, PathView path, int flags);
// Opens a directory for removal: throws failed_precondition if it is a mount point (bind mounts
// too).
UniqueFd open_same_mount(int dir, PathView path);
UniqueFd dup_fd(int fd);

// --- looking ---------------------------------------------------------------------------------

struct stat stat_fd(int fd);
struct stat stat_at(int dir, PathView path);
std::optional<struct stat> maybe_stat_at(int dir, PathView path);
bool exists_at(int dir, PathView path);
std::string read_link_at(int dir, PathView path);
// Throws resource_exhausted for a file of more than `limit` bytes.
std::string read_file_at(int dir, PathView path, uint64_t limit);
std::optional<std::string> maybe_read_file_at(int dir, PathView path, uint64_t limit);

// --- making and removing ---------------------------------------------------------------------

// The mode is exact: the umask is undone with a chmod where it took bits away.
void make_dir_at(int dir, PathView path, mode_t mode);
// False if something of that name is there.
bool try_make_dir_at(int dir, PathView path, mode_t mode);
void make_symlink_at(const std::string& target, int dir, PathView path);
void make_node_at(int dir, PathView path, mode_t mode, dev_t device);
void link_at(int from_dir, PathView from, int to_dir, PathView to);
// False for EMLINK (the inode can take no more links), else as link_at.
bool try_link_at(int from_dir, PathView from, int to_dir, PathView to);
void unlink_at(int dir, PathView path);
void remove_dir_at(int dir, PathView path);
// Removes whatever is there, a tree included; not following links, at any depth with a bounded
// number of descriptors (on overlayfs, which cannot move a directory of a lower layer, with two a
// level). True if there was something. Stops at a mount point (failed_precondition), unless
// `detach` unmounts what is on top of <dir>/<name> there and says so with true.
using DetachMount = std::function<bool(int dir, PathView name)>;
bool remove_tree_at(int dir, PathView path, const DetachMount& detach = {});
// Removes everything in an open directory.
void remove_children(int dir);
// Never replaces: EEXIST if the target is there.
void rename_at(int from_dir, PathView from, int to_dir, PathView to);
// Replaces a file atomically (for rewriting a small file of our own).
void replace_at(int from_dir, PathView from, int to_dir, PathView to);
// Swaps two names atomically.
void exchange_at(int from_dir, PathView from, int to_dir, PathView to);
// Writes a new file; EEXIST if it is there.
void write_file_at(int dir, PathView path, std::string_view text, mode_t mode);

// --- attributes ------------------------------------------------------------------------------

void chown_at(int dir, PathView path, uid_t uid, gid_t gid);
void chown_fd(int fd, uid_t uid, gid_t gid);
// Refuses symbolic links (they have no mode), as the kernel does for AT_SYMLINK_NOFOLLOW.
void chmod_at(int dir, PathView path, mode_t mode);
void chmod_fd(int fd, mode_t mode);
// Both change only what is not yet so: most of what is made is root's, and has no special bits. The
// mode of a symbolic link is left alone.
void set_owner_and_mode_at(int dir, PathView path, uid_t uid, gid_t gid, mode_t mode);
void set_owner_and_mode_fd(int fd, uid_t uid, gid_t gid, mode_t mode);
void set_times_at(int dir, PathView path, const timespec& access, const timespec& modify);
void set_times_fd(int fd, const timespec& access, const timespec& modify);

struct Xattr {
  std::string name;
  std::string value;
  bool operator==(const Xattr&) const = default;
  auto operator<=>(const Xattr&) const = default;
};
// Of the name itself, also of links and devices; sorted by name. Empty where the file system has
// none.
std::vector<Xattr> read_xattrs_at(int dir, PathView path);
std::optional<std::string> maybe_xattr_at(int dir, PathView path, const char* name);
void set_xattr_at(int dir, PathView path, const char* name, std::string_view value);
void remove_xattr_at(int dir, PathView path, const char* name);

// --- data and durability ---------------------------------------------------------------------

// Up to buffer.size() bytes, 0 only at the end; retried on EINTR.
size_t read_some(int fd, std::span<std::byte> buffer);
// At an offset, without moving the file position.
size_t read_some_at(int fd, std::span<std::byte> buffer, uint64_t offset);
void write_all(int fd, Bytes bytes);
void write_all_at(int fd, Bytes bytes, uint64_t offset);
void set_size(int fd, uint64_t size);
// Takes blocks for so many bytes, without a change of the size. Only tries: not every file system
// can.
void reserve_room(int fd, uint64_t size);
// Copies a part of a file, in the kernel where it can. failed_precondition if `from` ends before.
void copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t size);
// Copies a whole file's data into an empty file, holes kept, in the kernel where it can.
void copy_data(int from, int to);
void sync_fd(int fd);
void sync_data(int fd);
// Starts to write a part of a file out, so that a sync_data() to come is short. Durable is nothing
// before that.
void start_sync(int fd, uint64_t offset, uint64_t size);
// Has what is read of a file next come from the disk, not from the page cache: only what was never
// synced stays there.
void forget_cached(int fd);
// The file system that `fd` is on.
void sync_file_system(int fd);

// --- directories -----------------------------------------------------------------------------

class DirEntry {
 public:
  DirEntry(const char* name, uint8_t type) : name_(name), type_(type) {}
  std::string_view name() const { return name_; }
  PathView path() const { return PathView(PathView::Trusted{}, name_); }
  // A DT_ value; DT_UNKNOWN where the file system does not tell.
  uint8_t type() const { return type_; }

 private:
  const char* name_;
  uint8_t type_;
};

// The entries of a directory, without "." and "..", in the file system's order. The descriptor is
// borrowed and its position moved (it is rewound first).
class DirReader {
 public:
  explicit DirReader(int dir);
  // Valid until the next call.
  std::optional<DirEntry> next();

 private:
  int dir_;
  size_t at_ = 0;
  size_t end_ = 0;
  std::vector<std::byte> buffer_;
};

// All names of a directory, sorted bytewise.
std::vector<std::string> list_dir(int dir);

}  // namespace veneer
