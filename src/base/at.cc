#include "base/at.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>

#include "base/error.h"
#include "base/failpoint.h"

namespace veneer {

namespace {

// Lets a failpoint take the place of a call that changes something.
template <typename Call>
auto guarded(const char* name, Call call) -> decltype(call()) {
  if (const int error_number = failpoint::hit(name)) [[unlikely]] {
    errno = error_number;
    return -1;
  }
  return call();
}

SysError with_room(SysError error, int fd) {
  // What a quota has left is not what statvfs tells.
  if (error.error_number() == EDQUOT)
    error.add_context(fmt::format("{} is at its quota", path_of(fd)));
  else if (is_about_room(error.error_number()))
    error.add_context(describe_room(fmt::format("/proc/self/fd/{}", fd), path_of(fd)));
  return error;
}

// The same as check(), for a call that takes room in the file system of `fd`: when that is full,
// the error says which it is, and of what.
template <typename Result, typename... Args>
Result check_room(int fd, Result result, fmt::format_string<Args...> format, Args&&... args) {
  if (result >= 0) [[likely]]
    return result;
  const int error_number = errno;
  throw with_room(SysError(error_number, fmt::format(format, std::forward<Args>(args)...)), fd);
}

bool is_absent(int error_number) {
  return error_number == ENOENT || error_number == ENOTDIR;
}

int raw_open(int dir, PathView path, int flags, mode_t mode) {
  if ((flags & O_PATH) == 0) flags |= O_NOFOLLOW;
  const auto call = [&] { return ::openat(dir, path.c_str(), flags | O_CLOEXEC, mode); };
  return (flags & O_CREAT) != 0 ? guarded("openat", call) : call();
}

constexpr int kResolveAttempts = 128;

// A descriptor, or -1 with errno.
// openat2(2): a rename elsewhere on the way can make the kernel unsure, and it asks to try again.
// Not forever: below a directory that overlayfs has under two names, each lookup moves it.
int raw_resolve(int dir, PathView path, uint64_t flags, uint64_t how) {
  open_how request{};
  request.flags = flags | O_CLOEXEC;
  request.resolve = how;
  for (int attempts = 1;; ++attempts) {
    const long fd = ::syscall(SYS_openat2, dir, path.c_str(), &request, sizeof(request));
    const bool is_again = fd < 0 && errno == EAGAIN && attempts < kResolveAttempts;
    if (!is_again && (fd >= 0 || errno != EINTR)) return static_cast<int>(fd);
  }
}

std::optional<UniqueFd> resolve(int root, PathView path, int flags, uint64_t how) {
  UniqueFd fd(raw_resolve(root, path, static_cast<uint64_t>(flags), how | RESOLVE_NO_MAGICLINKS));
  if (fd) return fd;
  if (is_absent(errno)) return std::nullopt;
  if (errno == ELOOP && (how & RESOLVE_NO_SYMLINKS) != 0) return std::nullopt;
  fail_errno(errno, "openat2 {}", path.c_str());
}

// There is no *at() call for extended attributes before Linux 6.13; the link in /proc names the
// directory without a race, and the l-calls do not follow the last component.
class ProcPath {
 public:
  ProcPath(int dir, PathView path) {
    const auto result =
        fmt::format_to_n(text_.data(), text_.size() - 1, "/proc/self/fd/{}/{}", dir, path.c_str());
    if (result.size >= text_.size())
      fail(Code::invalid_argument, "path too long: {}", path.c_str());
    *result.out = '\0';
  }
  const char* c_str() const { return text_.data(); }

 private:
  std::array<char, PATH_MAX + 32> text_;
};

}  // namespace

UniqueFd open_root(const std::string& path, int flags) {
  return UniqueFd(check(::open(path.c_str(), flags | O_CLOEXEC), "open {}", path));
}

OpenedDir open_or_make_root(const std::string& path, mode_t mode) {
  if (!path.starts_with('/')) fail(Code::invalid_argument, "{} must be an absolute path", path);
  const RelPath below = RelPath::clamp(path);
  OpenedDir dir{open_root("/")};
  for (size_t end = 0; end < below.str().size(); ++end) {
    const size_t begin = end;
    end = std::min(below.str().find('/', end), below.str().size());
    const RelPath name = RelPath::parse_name(below.str().substr(begin, end - begin), "name");
    // What a person configured may lead through links: the one place where they are followed.
    UniqueFd next(::openat(dir.fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!next && errno != ENOENT) fail_errno(errno, "open {}", path);
    dir.is_new = !next;
    if (!next) {
      const bool is_last = end == below.str().size();
      (void)try_make_dir_at(dir.fd.get(), name, is_last ? mode : 0711);
      next = open_dir_at(dir.fd.get(), name);
    }
    dir.fd = std::move(next);
  }
  return dir;
}

UniqueFd open_nearest_root(const std::string& path) {
  if (!path.starts_with('/')) fail(Code::invalid_argument, "{} must be an absolute path", path);
  for (RelPath below = RelPath::clamp(path);; below.pop()) {
    const std::string at = "/" + below.str();
    UniqueFd dir(::open(at.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (dir || errno != ENOENT || below.empty()) {
      if (!dir) fail_errno(errno, "open {}", at);
      return dir;
    }
  }
}

std::string random_name() {
  std::array<unsigned char, 8> bytes;
  check(::getrandom(bytes.data(), bytes.size(), 0), "getrandom");
  std::string name;
  for (const unsigned char byte : bytes) name += fmt::format("{:02x}", byte);
  return name;
}

bool is_about_room(int error_number) {
  return error_number == ENOSPC || error_number == EDQUOT;
}

std::string describe_room(const std::string& path, const std::string& shown) {
  struct statvfs status{};
  if (::statvfs(path.c_str(), &status) != 0) return shown;
  std::string room = fmt::format("{} has {} KiB", shown, status.f_bavail * status.f_frsize / 1024);
  // Some file systems make inodes as they need them, and know no number.
  if (status.f_files != 0) room += fmt::format(" and {} inodes", status.f_favail);
  return room + " left";
}

std::string path_of(int fd) {
  std::string target(PATH_MAX, '\0');
  const std::string proc = fmt::format("/proc/self/fd/{}", fd);
  const ssize_t size =
      check(::readlink(proc.c_str(), target.data(), target.size()), "readlink {}", proc);
  target.resize(static_cast<size_t>(size));
  return target;
}

UniqueFd open_at(int dir, PathView path, int flags, mode_t mode) {
  return UniqueFd(check_room(dir, raw_open(dir, path, flags, mode), "open {}", path.c_str()));
}

std::optional<UniqueFd> maybe_open_at(int dir, PathView path, int flags) {
  UniqueFd fd(raw_open(dir, path, flags, 0));
  if (fd) return fd;
  if (is_absent(errno)) return std::nullopt;
  fail_errno(errno, "open {}", path.c_str());
}

UniqueFd open_dir_at(int dir, PathView path) {
  return open_at(dir, path, O_RDONLY | O_DIRECTORY);
}

std::optional<UniqueFd> maybe_open_dir_at(int dir, PathView path) {
  return maybe_open_at(dir, path, O_RDONLY | O_DIRECTORY);
}

std::optional<UniqueFd> maybe_resolve_in_root(int root, PathView path, int flags) {
  return resolve(root, path, flags, RESOLVE_IN_ROOT);
}

std::optional<UniqueFd> maybe_resolve_beneath(int root, PathView path, int flags) {
  return resolve(root, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

UniqueFd open_same_mount(int dir, PathView path) {
  UniqueFd fd(raw_resolve(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
                          RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV));
  if (fd) return fd;
  if (errno == EXDEV) fail(Code::failed_precondition, "{} is a mount point", path.c_str());
  fail_errno(errno, "open {}", path.c_str());
}

UniqueFd dup_fd(int fd) {
  return UniqueFd(check(::fcntl(fd, F_DUPFD_CLOEXEC, 0), "duplicate a descriptor"));
}

struct stat stat_fd(int fd) {
  struct stat st;
  check(::fstat(fd, &st), "fstat");
  return st;
}

struct stat stat_at(int dir, PathView path) {
  struct stat st;
  check(::fstatat(dir, path.c_str(), &st, AT_SYMLINK_NOFOLLOW), "stat {}", path.c_str());
  return st;
}

std::optional<struct stat> maybe_stat_at(int dir, PathView path) {
  struct stat st;
  if (::fstatat(dir, path.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) return st;
  if (is_absent(errno)) return std::nullopt;
  fail_errno(errno, "stat {}", path.c_str());
}

bool exists_at(int dir, PathView path) {
  return maybe_stat_at(dir, path).has_value();
}

std::string read_link_at(int dir, PathView path) {
  std::string target(PATH_MAX, '\0');
  const ssize_t size = check(::readlinkat(dir, path.c_str(), target.data(), target.size()),
                             "readlink {}", path.c_str());
  target.resize(static_cast<size_t>(size));
  return target;
}

std::optional<std::string> maybe_read_file_at(int dir, PathView path, uint64_t limit) {
  const std::optional<UniqueFd> file = maybe_open_at(dir, path, O_RDONLY);
  if (!file) return std::nullopt;
  std::string text;
  std::array<std::byte, 16384> buffer;
  while (const size_t size = read_some(file->get(), buffer)) {
    if (text.size() + size > limit)
      fail(Code::resource_exhausted, "{} is larger than {} bytes", path.c_str(), limit);
    text.append(reinterpret_cast<const char*>(buffer.data()), size);
  }
  return text;
}

std::string read_file_at(int dir, PathView path, uint64_t limit) {
  std::optional<std::string> text = maybe_read_file_at(dir, path, limit);
  if (!text) fail_errno(ENOENT, "open {}", path.c_str());
  return std::move(*text);
}

bool try_make_dir_at(int dir, PathView path, mode_t mode) {
  const int result = guarded("mkdirat", [&] { return ::mkdirat(dir, path.c_str(), mode); });
  if (result < 0 && errno == EEXIST) return false;
  check_room(dir, result, "mkdir {}", path.c_str());
  if ((stat_at(dir, path).st_mode & 07777) != mode) chmod_at(dir, path, mode);
  return true;
}

void make_dir_at(int dir, PathView path, mode_t mode) {
  if (!try_make_dir_at(dir, path, mode)) fail_errno(EEXIST, "mkdir {}", path.c_str());
}

void make_symlink_at(const std::string& target, int dir, PathView path) {
  check_room(dir,
             guarded("symlinkat", [&] { return ::symlinkat(target.c_str(), dir, path.c_str()); }),
             "symlink {}", path.c_str());
}

void make_node_at(int dir, PathView path, mode_t mode, dev_t device) {
  check_room(dir, guarded("mknodat", [&] { return ::mknodat(dir, path.c_str(), mode, device); }),
             "mknod {}", path.c_str());
}

bool try_link_at(int from_dir, PathView from, int to_dir, PathView to) {
  const int result =
      guarded("linkat", [&] { return ::linkat(from_dir, from.c_str(), to_dir, to.c_str(), 0); });
  if (result < 0 && errno == EMLINK) return false;
  check_room(to_dir, result, "link {} to {}", to.c_str(), from.c_str());
  return true;
}

void link_at(int from_dir, PathView from, int to_dir, PathView to) {
  if (!try_link_at(from_dir, from, to_dir, to))
    fail_errno(EMLINK, "link {} to {}", to.c_str(), from.c_str());
}

void unlink_at(int dir, PathView path) {
  check(guarded("unlinkat", [&] { return ::unlinkat(dir, path.c_str(), 0); }), "unlink {}",
        path.c_str());
}

void remove_dir_at(int dir, PathView path) {
  check(guarded("rmdir", [&] { return ::unlinkat(dir, path.c_str(), AT_REMOVEDIR); }), "rmdir {}",
        path.c_str());
}

namespace {

void rename_with(int from_dir, PathView from, int to_dir, PathView to, unsigned flags) {
  check_room(
      to_dir,
      guarded("renameat2",
              [&] { return ::renameat2(from_dir, from.c_str(), to_dir, to.c_str(), flags); }),
      "rename {} to {}", from.c_str(), to.c_str());
}

}  // namespace

void rename_at(int from_dir, PathView from, int to_dir, PathView to) {
  rename_with(from_dir, from, to_dir, to, RENAME_NOREPLACE);
}

void replace_at(int from_dir, PathView from, int to_dir, PathView to) {
  rename_with(from_dir, from, to_dir, to, 0);
}

void exchange_at(int from_dir, PathView from, int to_dir, PathView to) {
  rename_with(from_dir, from, to_dir, to, RENAME_EXCHANGE);
}

void write_file_at(int dir, PathView path, std::string_view text, mode_t mode) {
  const UniqueFd file = open_at(dir, path, O_WRONLY | O_CREAT | O_EXCL, mode);
  write_all(file.get(), std::as_bytes(std::span(text)));
}

void chown_at(int dir, PathView path, uid_t uid, gid_t gid) {
  check(guarded("fchownat",
                [&] { return ::fchownat(dir, path.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW); }),
        "chown {}", path.c_str());
}

void chown_fd(int fd, uid_t uid, gid_t gid) {
  check(guarded("fchown", [&] { return ::fchown(fd, uid, gid); }), "chown");
}

namespace {

// fchmodat2(2): Linux 6.6; glibc 2.36 has no name for it.
constexpr long kFchmodat2 = 452;

int chmod_by_proc(int dir, PathView path, mode_t mode) {
  const UniqueFd file = open_at(dir, path, O_PATH | O_NOFOLLOW);
  if (S_ISLNK(stat_fd(file.get()).st_mode)) {
    errno = EOPNOTSUPP;
    return -1;
  }
  const std::string proc = fmt::format("/proc/self/fd/{}", file.get());
  return ::chmod(proc.c_str(), mode);
}

}  // namespace

void chmod_at(int dir, PathView path, mode_t mode) {
  check(guarded("fchmodat2",
                [&] {
                  const long result =
                      ::syscall(kFchmodat2, dir, path.c_str(), mode, AT_SYMLINK_NOFOLLOW);
                  if (result >= 0 || errno != ENOSYS) return static_cast<int>(result);
                  return chmod_by_proc(dir, path, mode);
                }),
        "chmod {}", path.c_str());
}

void chmod_fd(int fd, mode_t mode) {
  check(guarded("fchmod", [&] { return ::fchmod(fd, mode); }), "chmod");
}

namespace {

bool has_owner(const struct stat& st, uid_t uid, gid_t gid) {
  return st.st_uid == uid && st.st_gid == gid;
}

// chown(2) clears the set-id bits of some files (fs/attr.c), of directories never.
bool has_mode(const struct stat& st, bool is_chowned, mode_t mode) {
  const bool may_lose_bits = is_chowned && (mode & (S_ISUID | S_ISGID)) != 0;
  return (st.st_mode & 07777) == mode && !may_lose_bits;
}

}  // namespace

void set_owner_and_mode_at(int dir, PathView path, uid_t uid, gid_t gid, mode_t mode) {
  const struct stat st = stat_at(dir, path);
  const bool is_right = has_owner(st, uid, gid);
  if (!is_right) chown_at(dir, path, uid, gid);
  if (!S_ISLNK(st.st_mode) && !has_mode(st, !is_right, mode)) chmod_at(dir, path, mode);
}

void set_owner_and_mode_fd(int fd, uid_t uid, gid_t gid, mode_t mode) {
  const struct stat st = stat_fd(fd);
  const bool is_right = has_owner(st, uid, gid);
  if (!is_right) chown_fd(fd, uid, gid);
  if (!has_mode(st, !is_right, mode)) chmod_fd(fd, mode);
}

void set_times_at(int dir, PathView path, const timespec& access, const timespec& modify) {
  const std::array<timespec, 2> times{access, modify};
  check(guarded("utimensat",
                [&] { return ::utimensat(dir, path.c_str(), times.data(), AT_SYMLINK_NOFOLLOW); }),
        "set times of {}", path.c_str());
}

void set_times_fd(int fd, const timespec& access, const timespec& modify) {
  const std::array<timespec, 2> times{access, modify};
  check(guarded("futimens", [&] { return ::futimens(fd, times.data()); }), "set times");
}

std::optional<std::string> maybe_xattr_at(int dir, PathView path, const char* name) {
  const ProcPath proc(dir, path);
  std::string value(256, '\0');
  for (;;) {
    const ssize_t size = ::lgetxattr(proc.c_str(), name, value.data(), value.size());
    if (size >= 0) {
      value.resize(static_cast<size_t>(size));
      return value;
    }
    if (errno == ENODATA || errno == EOPNOTSUPP) return std::nullopt;
    if (errno != ERANGE || value.size() >= XATTR_SIZE_MAX)
      fail_errno(errno, "getxattr {} of {}", name, path.c_str());
    value.resize(XATTR_SIZE_MAX);
  }
}

std::vector<Xattr> read_xattrs_at(int dir, PathView path) {
  const ProcPath proc(dir, path);
  std::array<char, XATTR_LIST_MAX> names;
  const ssize_t size = ::llistxattr(proc.c_str(), names.data(), names.size());
  if (size == 0 || (size < 0 && errno == EOPNOTSUPP)) return {};
  check(size, "listxattr {}", path.c_str());
  std::vector<Xattr> xattrs;
  for (const char* name = names.data(); name < names.data() + size; name += std::strlen(name) + 1)
    if (std::optional<std::string> value = maybe_xattr_at(dir, path, name))
      xattrs.push_back({name, std::move(*value)});
  std::ranges::sort(xattrs);
  return xattrs;
}

void set_xattr_at(int dir, PathView path, const char* name, std::string_view value) {
  const ProcPath proc(dir, path);
  check_room(
      dir,
      guarded("lsetxattr",
              [&] { return ::lsetxattr(proc.c_str(), name, value.data(), value.size(), 0); }),
      "setxattr {} of {}", name, path.c_str());
}

void remove_xattr_at(int dir, PathView path, const char* name) {
  const ProcPath proc(dir, path);
  check(guarded("lremovexattr", [&] { return ::lremovexattr(proc.c_str(), name); }),
        "removexattr {} of {}", name, path.c_str());
}

size_t read_some(int fd, std::span<std::byte> buffer) {
  for (;;) {
    const ssize_t size = ::read(fd, buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    return static_cast<size_t>(check(size, "read"));
  }
}

size_t read_some_at(int fd, std::span<std::byte> buffer, uint64_t offset) {
  for (;;) {
    const ssize_t size = ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(offset));
    if (size < 0 && errno == EINTR) continue;
    return static_cast<size_t>(check(size, "read"));
  }
}

void write_all(int fd, Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t size = guarded("write", [&] { return ::write(fd, bytes.data(), bytes.size()); });
    if (size < 0 && errno == EINTR) continue;
    bytes = bytes.subspan(static_cast<size_t>(check_room(fd, size, "write")));
  }
}

void write_all_at(int fd, Bytes bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t size = guarded("pwrite", [&] {
      return ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    });
    if (size < 0 && errno == EINTR) continue;
    bytes = bytes.subspan(static_cast<size_t>(check_room(fd, size, "write")));
    offset += static_cast<uint64_t>(size);
  }
}

void set_size(int fd, uint64_t size) {
  check_room(fd, guarded("ftruncate", [&] { return ::ftruncate(fd, static_cast<off_t>(size)); }),
             "set the size to {}", size);
}

void reserve_room(int fd, uint64_t size) {
  (void)::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(size));
}

void copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t size) {
  auto in = static_cast<off_t>(from_offset);
  auto out = static_cast<off_t>(to_offset);
  const off_t end = in + static_cast<off_t>(size);
  while (in < end) {
    const auto room = static_cast<size_t>(end - in);
    const ssize_t copied =
        guarded("copy_file_range", [&] { return ::copy_file_range(from, &in, to, &out, room, 0); });
    if (copied > 0) continue;
    if (copied == 0) fail(Code::failed_precondition, "a file shrank while it was copied");
    if (errno == EINTR) continue;
    // Across file systems before Linux 5.3, and on some pairs of file systems still.
    if (errno != EXDEV && errno != EOPNOTSUPP && errno != EINVAL)
      check_room(to, copied, "copy data");
    std::array<std::byte, 65536> buffer;
    const size_t got = read_some_at(from, std::span(buffer).first(std::min(room, buffer.size())),
                                    static_cast<uint64_t>(in));
    if (got == 0) fail(Code::failed_precondition, "a file shrank while it was copied");
    write_all_at(to, std::span(buffer).first(got), static_cast<uint64_t>(out));
    in += static_cast<off_t>(got);
    out += static_cast<off_t>(got);
  }
}

void copy_data(int from, int to) {
  const off_t size = stat_fd(from).st_size;
  off_t at = 0;
  while (at < size) {
    const off_t data = ::lseek(from, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;  // only a hole is left
    check(data, "seek data");
    const off_t hole = check(::lseek(from, data, SEEK_HOLE), "seek hole");
    copy_range(from, static_cast<uint64_t>(data), to, static_cast<uint64_t>(data),
               static_cast<uint64_t>(std::min(hole, size) - data));
    at = hole;
  }
  set_size(to, static_cast<uint64_t>(size));
}

void sync_fd(int fd) {
  check_room(fd, guarded("fsync", [&] { return ::fsync(fd); }), "fsync");
}

void sync_data(int fd) {
  check_room(fd, guarded("fdatasync", [&] { return ::fdatasync(fd); }), "fdatasync");
}

void start_sync(int fd, uint64_t offset, uint64_t size) {
  // Only a hint: what is wrong with the data, fdatasync tells.
  (void)::sync_file_range(fd, static_cast<off64_t>(offset), static_cast<off64_t>(size),
                          SYNC_FILE_RANGE_WRITE);
}

void forget_cached(int fd) {
  (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);  // not every file has a cache
}

void sync_file_system(int fd) {
  check_room(fd, guarded("syncfs", [&] { return ::syncfs(fd); }), "syncfs");
}

DirReader::DirReader(int dir) : dir_(dir), buffer_(32768) {
  check(::lseek(dir_, 0, SEEK_SET), "rewind a directory");
}

std::optional<DirEntry> DirReader::next() {
  for (;;) {
    if (at_ == end_) {
      end_ = static_cast<size_t>(
          check(::getdents64(dir_, buffer_.data(), buffer_.size()), "read a directory"));
      at_ = 0;
      if (end_ == 0) return std::nullopt;
    }
    const auto* entry = reinterpret_cast<const dirent64*>(buffer_.data() + at_);
    at_ += entry->d_reclen;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") return DirEntry(entry->d_name, entry->d_type);
  }
}

std::vector<std::string> list_dir(int dir) {
  std::vector<std::string> names;
  DirReader reader(dir);
  while (const std::optional<DirEntry> entry = reader.next()) names.emplace_back(entry->name());
  std::ranges::sort(names);
  return names;
}

}  // namespace veneer
