#include "mount/features.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <linux/quota.h>
#include <spawn.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/quota.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "base/at.h"
#include "base/error.h"
#include "mount/erofs.h"
#include "mount/fs_context.h"
#include "mount/idmap.h"
#include "mount/mount.h"
#include "mount/overlay.h"

namespace veneer {

namespace {

// A directory to try things in, removed with all that is in it.
class ProbeDir {
 public:
  explicit ProbeDir(int parent) : parent_(parent) {
    uint64_t number = 0;
    check(::getrandom(&number, sizeof(number), 0), "getrandom");
    name_ = RelPath::parse_name(fmt::format(".veneer-probe-{:016x}", number), "probe directory");
    make_dir_at(parent_, name_, 0700);
    fd_ = open_dir_at(parent_, name_);
  }
  ProbeDir(const ProbeDir&) = delete;
  ProbeDir& operator=(const ProbeDir&) = delete;
  ~ProbeDir() {
    try {
      remove_tree_at(parent_, name_);
    } catch (const Error&) {
      // What was probed is known; that the directory stays behind changes nothing about it.
    }
  }

  int fd() const { return fd_.get(); }
  std::string path(std::string_view name) const {
    return fmt::format("{}/{}", path_of(fd_.get()), name);
  }

 private:
  int parent_;
  RelPath name_;
  UniqueFd fd_;
};

// --- overlayfs -------------------------------------------------------------------------------

OverlaySpec make_overlay_dirs(const ProbeDir& dir) {
  make_dir_at(dir.fd(), "lower", 0700);
  make_dir_at(dir.fd(), "upper", 0700);
  make_dir_at(dir.fd(), "work", 0700);
  make_dir_at(dir.fd(), "lower/again", 0700);
  return {.lower = {dir.path("lower")},
          .upper = dir.path("upper"),
          .work = dir.path("work"),
          .label = "",
          .options = {}};
}

// Mounting alone says little: a directory made anew over a lower one needs a whiteout and an opaque
// mark, and the right to either may be missing.
void try_overlay(const OverlaySpec& spec) {
  const UniqueFd mount = mount_overlay(spec);
  remove_dir_at(mount.get(), "again");
  make_dir_at(mount.get(), "again", 0700);
}

void probe_overlay(const ProbeDir& dir) {
  try_overlay(make_overlay_dirs(dir));
}

void probe_volatile(const ProbeDir& dir) {
  OverlaySpec spec = make_overlay_dirs(dir);
  spec.is_volatile = true;
  (void)mount_overlay(spec);
}

void probe_userxattr(const ProbeDir& dir) {
  OverlaySpec spec = make_overlay_dirs(dir);
  spec.userxattr = true;
  try_overlay(spec);
}

// Not through mount_overlay(), which does without it where it must.
void probe_lowerdir_plus(const ProbeDir& dir) {
  FsContext context("overlay");
  for (const char* const name : {"a", "b"}) {
    make_dir_at(dir.fd(), RelPath::parse(name), 0700);
    const UniqueFd lower = open_dir_at(dir.fd(), RelPath::parse(name));
    context.set("lowerdir+", fmt::format("/proc/self/fd/{}", lower.get()));
  }
  if (const int error_number = context.try_create())
    context.fail_with(error_number, "two times lowerdir+");
}

// --- EROFS -----------------------------------------------------------------------------------

constexpr size_t kBlock = 512;
constexpr std::string_view kProbeText = "the extra device of the probe image";

// A whole EROFS image (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h): the root
// directory and the file "probe", whose one block is the first of the extra device.
constexpr auto kProbeImage = [] {
  std::array<char, 4 * kBlock> image{};
  const auto put = [&image](size_t at, size_t size, uint64_t value) {
    for (size_t i = 0; i < size; ++i) image[at + i] = static_cast<char>(value >> (8 * i) & 0xff);
  };
  const auto put_text = [&image](size_t at, std::string_view text) {
    for (const char c : text) image[at++] = c;
  };
  constexpr size_t kSuper = 1024;
  constexpr size_t kDevice = kSuper + 128;
  constexpr size_t kMeta = kSuper;  // inode numbers count 32 bytes from here
  constexpr size_t kRoot = 1536;
  constexpr size_t kFile = 1632;
  constexpr uint64_t kRootInode = (kRoot - kMeta) / 32;
  constexpr uint64_t kFileInode = (kFile - kMeta) / 32;
  constexpr size_t kNames = 3 * 12;  // of the three directory entries

  put(kSuper, 4, magic::kErofs);
  put(kSuper + 12, 1, 9);  // log2 of the block size
  put(kSuper + 14, 2, kRootInode);
  put(kSuper + 16, 8, 2);  // inodes
  put(kSuper + 36, 4, image.size() / kBlock);
  put(kSuper + 40, 4, kMeta / kBlock);
  put(kSuper + 80, 4, 0x8);  // incompatible feature: device table
  put(kSuper + 86, 2, 1);    // extra devices
  put(kSuper + 88, 2, kDevice / 128);
  put(kDevice + 64, 4, 1);  // blocks
  put(kDevice + 68, 4, image.size() / kBlock);

  // Compact inodes. The root's entries follow it (layout 2), sorted by name.
  put(kRoot, 2, 2 << 1);
  put(kRoot + 4, 2, S_IFDIR | 0755);
  put(kRoot + 6, 2, 2);  // links
  put(kRoot + 8, 4, kNames + 8);
  put(kRoot + 20, 4, kRootInode);
  const auto put_entry = [&](size_t index, uint64_t inode, size_t name, uint64_t type) {
    const size_t at = kRoot + 32 + index * 12;
    put(at, 8, inode);
    put(at + 8, 2, kNames + name);
    put(at + 10, 1, type);
  };
  put_entry(0, kRootInode, 0, 2);
  put_entry(1, kRootInode, 1, 2);
  put_entry(2, kFileInode, 3, 1);
  put_text(kRoot + 32 + kNames, "...probe");

  // Chunk-based (layout 4): chunks of one block, with 8-byte indexes.
  put(kFile, 2, 4 << 1);
  put(kFile + 4, 2, S_IFREG | 0644);
  put(kFile + 6, 2, 1);
  put(kFile + 8, 4, kProbeText.size());
  put(kFile + 16, 2, 1 << 5);
  put(kFile + 20, 4, kFileInode);
  put(kFile + 32 + 2, 2, 1);  // device; its block 0 follows
  return image;
}();

void probe_erofs(const ProbeDir& dir) {
  std::string device(kProbeText);
  device.resize(kBlock);
  write_file_at(dir.fd(), "index", {kProbeImage.data(), kProbeImage.size()}, 0600);
  write_file_at(dir.fd(), "device", device, 0600);
  const UniqueFd mount = mount_erofs(dir.fd(), {.index = "index", .device = "device"});
  if (read_file_at(mount.get(), "probe", kBlock) != kProbeText)
    fail(Code::unsupported, "a file on the extra device reads back with other contents");
}

// --- the rest --------------------------------------------------------------------------------

void probe_openat2(const ProbeDir& dir) {
  if (!maybe_resolve_in_root(dir.fd(), ".", O_PATH | O_DIRECTORY))
    fail(Code::unsupported, "openat2 RESOLVE_IN_ROOT does not find the root itself");
}

void probe_idmap(const ProbeDir& dir) {
  const IdMap map({{.container = 0, .host = 100000, .size = 65536}});
  make_dir_at(dir.fd(), "owned", 0700);
  const uid_t owner = stat_at(dir.fd(), "owned").st_uid;
  const UniqueFd clone = clone_mount(dir.fd(), ".");
  idmap_mount(clone.get(), {.uids = map, .gids = map});
  if (stat_at(clone.get(), "owned").st_uid != map.to_host(owner))
    fail(Code::unsupported, "the owner of a file is not mapped");
}

void probe_project_quota(const ProbeDir& dir) {
  // Any id does: it goes with the directory.
  constexpr uint32_t kProject = 0x766e6565;
  fsxattr attributes{};
  check(::ioctl(dir.fd(), FS_IOC_FSGETXATTR, &attributes), "ioctl FS_IOC_FSGETXATTR");
  attributes.fsx_projid = kProject;
  check(::ioctl(dir.fd(), FS_IOC_FSSETXATTR, &attributes), "ioctl FS_IOC_FSSETXATTR (project id)");
  dqblk limits{};
  if (::syscall(SYS_quotactl_fd, dir.fd(), QCMD(Q_GETQUOTA, PRJQUOTA), kProject, &limits) == 0)
    return;
  // "No such process" for: not switched on.
  if (errno == ESRCH) fail(Code::unsupported, "the file system is mounted without prjquota");
  fail_errno(errno, "quotactl_fd Q_GETQUOTA of a project");
}

void probe_verity(const ProbeDir& dir) {
  write_file_at(dir.fd(), "file", "sealed", 0600);
  const UniqueFd file = open_at(dir.fd(), "file", O_RDONLY);
  fsverity_enable_arg request{};
  request.version = 1;
  request.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
  request.block_size = 4096;
  check(::ioctl(file.get(), FS_IOC_ENABLE_VERITY, &request), "ioctl FS_IOC_ENABLE_VERITY");
}

void probe_pre_content(const ProbeDir& dir) {
  constexpr uint64_t kPreAccess = 0x00100000;  // FAN_PRE_ACCESS, Linux 6.14
  write_file_at(dir.fd(), "file", "", 0600);
  const UniqueFd group(
      check(::fanotify_init(FAN_CLASS_PRE_CONTENT | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC),
            "fanotify_init FAN_CLASS_PRE_CONTENT"));
  check(::fanotify_mark(group.get(), FAN_MARK_ADD, kPreAccess, dir.fd(), "file"),
        "fanotify_mark FAN_PRE_ACCESS");
}

struct Feature {
  std::string_view name;
  std::string_view enables;
  void (*probe)(const ProbeDir&);
};

constexpr Feature kFeatures[] = {
    {"overlayfs", "containers over shared layers", probe_overlay},
    {"openat2", "safe look-ups in container trees (required)", probe_openat2},
    {"file-backed EROFS", "packed layers: a tar and its index, nothing unpacked", probe_erofs},
    {"lowerdir+", "more layers than fit a page of mount options, up to 500", probe_lowerdir_plus},
    {"idmapped mounts", "user namespaces without chown", probe_idmap},
    {"volatile", "containers that skip syncing", probe_volatile},
    {"userxattr", "overlay mounts without privileges", probe_userxattr},
    {"project quota", "size limits for containers", probe_project_quota},
    {"fs-verity", "layers that the kernel checks at every read", probe_verity},
    {"fanotify pre-content", "layers that are fetched while they are read", probe_pre_content},
};

// What a probe may run into that says nothing about the kernel.
bool is_passing(const Error& error) {
  const auto* system = dynamic_cast<const SysError*>(&error);
  if (system == nullptr) return false;
  switch (system->error_number()) {
    case EIO:
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return true;
    default:
      return false;
  }
}

enum class PassingErrors { reported, thrown };

Probe run_probe(const Feature& feature, int dir, PassingErrors passing) {
  Probe probe{.name = std::string(feature.name),
              .enables = std::string(feature.enables),
              .works = false,
              .why_not = ""};
  try {
    const ProbeDir place(dir);
    feature.probe(place);
    probe.works = true;
  } catch (const Error& error) {
    if (passing == PassingErrors::thrown && is_passing(error)) throw;
    probe.why_not = error.message();
  }
  return probe;
}

// --- loading overlayfs -----------------------------------------------------------------------

bool is_in_proc_filesystems(std::string_view name) {
  const UniqueFd proc = open_root("/proc");
  const std::string list = read_file_at(proc.get(), "filesystems", 1 << 16);
  return list.contains(fmt::format("\t{}\n", name));
}

// Where the kernel cannot load modules by itself (in a container, for one) there may be a modprobe
// that can. Whether it worked is seen in /proc/filesystems.
void run_modprobe() {
  posix_spawn_file_actions_t actions;
  if (::posix_spawn_file_actions_init(&actions) != 0) return;
  for (const int fd : {0, 1, 2})
    (void)::posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
  std::string name = "modprobe";
  std::string module = "overlay";
  const std::array<char*, 3> arguments = {name.data(), module.data(), nullptr};
  const std::array<char*, 1> environment = {nullptr};
  for (const char* const program : {"/sbin/modprobe", "/usr/sbin/modprobe"}) {
    pid_t pid = 0;
    if (::posix_spawn(&pid, program, &actions, nullptr, arguments.data(), environment.data()) != 0)
      continue;
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) continue;
    break;
  }
  (void)::posix_spawn_file_actions_destroy(&actions);
}

}  // namespace

void require_overlay(int dir) {
  if (!is_in_proc_filesystems("overlay")) run_modprobe();
  if (!is_in_proc_filesystems("overlay"))
    fail(Code::unsupported,
         "this kernel has no overlayfs: run \"modprobe overlay\", or use a kernel with "
         "CONFIG_OVERLAY_FS");
  const ProbeDir probe(dir);
  const OverlaySpec spec = make_overlay_dirs(probe);
  try {
    (void)mount_overlay(spec);
  } catch (const SysError& error) {
    // A full disk says nothing about overlayfs.
    if (error.code() == Code::resource_exhausted) throw;
    const bool may_not = error.error_number() == EPERM;
    fail(Code::unsupported, "overlayfs does not work in {} on {}: {}; {}", path_of(dir),
         file_system_name(file_system_magic_at(dir, ".")), error.message(),
         may_not ? "run as root, or in a user namespace"
                 : "use a directory on a file system such as ext4 or xfs");
  }
}

bool supports_d_type(int dir) {
  const ProbeDir probe(dir);
  write_file_at(probe.fd(), "file", "", 0600);
  const std::optional<DirEntry> entry = DirReader(probe.fd()).next();
  return entry && entry->type() == DT_REG;
}

std::vector<Probe> probe_features(int dir) {
  std::vector<Probe> probes;
  for (const Feature& feature : kFeatures)
    probes.push_back(run_probe(feature, dir, PassingErrors::reported));
  return probes;
}

Probe probe_packed(int dir) {
  return run_probe(*std::ranges::find(kFeatures, &probe_erofs, &Feature::probe), dir,
                   PassingErrors::thrown);
}

}  // namespace veneer
