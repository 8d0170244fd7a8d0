#include "mount/overlay.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "mount/fs_context.h"

namespace veneer {

namespace {

void check_path(const std::string& path) {
  if (!path.starts_with('/') || path.contains('\0'))
    fail(Code::invalid_argument, "overlay: not an absolute path: \"{}\"", path);
}

void check_spec(const OverlaySpec& spec) {
  if (spec.upper.empty() != spec.work.empty())
    fail(Code::invalid_argument, "overlay: upper and work go together");
  if (spec.lower.size() < (spec.upper.empty() ? 2 : 1))
    fail(Code::invalid_argument, "overlay: too few lower directories");
  if (spec.lower.size() > kOverlayLowers)
    fail(Code::resource_exhausted, "overlay: {} lower directories, the kernel takes {}",
         spec.lower.size(), kOverlayLowers);
  for (const std::string& path : spec.lower) check_path(path);
  if (spec.upper.empty()) return;
  check_path(spec.upper);
  check_path(spec.work);
}

// Before 6.8 "lowerdir+" is refused; before 6.5 every option is taken, and refused at the end only.
bool takes_lowerdir_plus() {
  static const bool takes = [] {
    FsContext context("overlay");
    return context.try_set("lowerdir+", "/") == 0 &&
           context.try_set("no such option", nullptr) != 0;
  }();
  return takes;
}

bool fits_options(const OverlaySpec& spec) {
  return spec.label.size() <= kFsOptionBytes &&
         std::ranges::all_of(spec.options, [](const std::string& option) {
           return option.size() <= kFsOptionBytes;
         });
}

// As a string a path must be short, and overlayfs takes backslashes out of some; an open directory
// is itself (Linux 6.13 takes it so, earlier ones through /proc).
void set_layer(FsContext& context, const char* key, const std::string& path) {
  if (path.size() <= kFsOptionBytes && !path.contains('\\')) return context.set(key, path);
  const UniqueFd dir = open_root(path, O_PATH | O_DIRECTORY);
  if (context.try_set_fd(key, dir.get()) == 0) return;
  context.set(key, fmt::format("/proc/self/fd/{}", dir.get()));
}

void set_option(FsContext& context, const std::string& option) {
  const size_t equals = option.find('=');
  if (equals == std::string::npos) return context.set_flag(option.c_str());
  context.set(option.substr(0, equals).c_str(), option.substr(equals + 1));
}

uint64_t mount_id_of(const std::string& path) {
  struct statx status{};
  check(::statx(AT_FDCWD, path.c_str(), 0, STATX_MNT_ID, &status), "statx {}", path);
  return status.stx_mnt_id;
}

// overlayfs takes no directory twice.
std::optional<std::string> maybe_given_twice(const OverlaySpec& spec) {
  std::map<std::pair<dev_t, ino_t>, std::string> seen;
  for (const std::string& lower : spec.lower) {
    const struct stat status = stat_fd(open_root(lower, O_PATH | O_DIRECTORY).get());
    const auto [other, is_new] = seen.emplace(std::pair(status.st_dev, status.st_ino), lower);
    if (!is_new) return fmt::format("{} and {} are one directory", other->second, lower);
  }
  return std::nullopt;
}

// What was tried, with what makes it fail most often.
std::string describe(int error_number, const OverlaySpec& spec) {
  if (error_number == ELOOP)
    if (std::optional<std::string> twice = maybe_given_twice(spec)) return *std::move(twice);
  if (spec.upper.empty())
    return fmt::format("{} lower directories from {}", spec.lower.size(), spec.lower.front());
  if (mount_id_of(spec.upper) != mount_id_of(spec.work))
    return fmt::format("upper {} and work {} must be on one mount", spec.upper, spec.work);
  if (error_number == EDQUOT) return fmt::format("{} is at its quota", spec.work);
  if (is_about_room(error_number)) return describe_room(spec.work, spec.work);
  const UniqueFd upper = open_root(spec.upper, O_PATH | O_DIRECTORY);
  return fmt::format("upper {} on {}", spec.upper,
                     file_system_name(file_system_magic_at(upper.get(), ".")));
}

// overlayfs splits lowerdir at colons and drops a backslash before any character; the options of a
// mount are split at commas that have no backslash before them.
std::string escape(std::string_view path, std::string_view special) {
  std::string escaped;
  for (const char c : path) {
    if (special.contains(c)) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace

UniqueFd mount_overlay(const OverlaySpec& spec) {
  check_spec(spec);
  if (!takes_lowerdir_plus() || !fits_options(spec)) return mount_overlay_in_page(spec);
  FsContext context("overlay");
  context.set("source", "overlay");
  for (const std::string& lower : spec.lower) set_layer(context, "lowerdir+", lower);
  if (!spec.upper.empty()) {
    set_layer(context, "upperdir", spec.upper);
    set_layer(context, "workdir", spec.work);
  }
  if (!spec.label.empty()) context.set("context", spec.label);
  if (spec.is_volatile) context.set_flag("volatile");
  if (spec.userxattr) context.set_flag("userxattr");
  for (const std::string& option : spec.options) set_option(context, option);
  if (const int error_number = context.try_create())
    context.fail_with(error_number, describe(error_number, spec));
  return context.mount(0);
}

UniqueFd mount_overlay_in_page(const OverlaySpec& spec) {
  const std::string data = fmt::format("{}", fmt::join(to_mount(spec).options, ","));
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  // mount(2) cuts what is longer without an error.
  if (data.size() >= page)
    fail(
        Code::resource_exhausted,
        "overlay: {} lower directories need {} bytes of options; without lowerdir+ (Linux 6.8) the "
        "kernel takes {}",
        spec.lower.size(), data.size(), page - 1);
  return build_unseen([&] {
    if (const int error_number = failpoint::hit("mount overlay"))
      fail_errno(error_number, "mount overlay");
    // Any directory will do as the mount point: nobody else sees this namespace.
    const char* const point = spec.lower.front().c_str();
    if (::mount("overlay", point, "overlay", 0, data.c_str()) != 0) {
      const int error_number = errno;
      fail_errno(error_number, "mount overlay: {}", describe(error_number, spec));
    }
    return UniqueFd(check(::open_tree(AT_FDCWD, point, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC),
                          "open_tree {}", point));
  });
}

Mount to_mount(const OverlaySpec& spec) {
  check_spec(spec);
  Mount mount{.type = "overlay", .source = "overlay", .options = spec.options};
  if (spec.is_volatile) mount.options.emplace_back("volatile");
  if (spec.userxattr) mount.options.emplace_back("userxattr");
  if (!spec.label.empty()) mount.options.push_back(label_option(spec.label));
  if (!spec.upper.empty()) {
    mount.options.push_back("workdir=" + escape(spec.work, "\\,"));
    mount.options.push_back("upperdir=" + escape(spec.upper, "\\,"));
  }
  std::string lowers = "lowerdir=";
  for (const std::string& path : spec.lower) {
    if (&path != &spec.lower.front()) lowers += ':';
    lowers += escape(path, "\\:,");
  }
  mount.options.push_back(std::move(lowers));
  return mount;
}

std::string label_option(const std::string& label) {
  if (label.contains('"') || label.contains('\0'))
    fail(Code::invalid_argument, "an SELinux label cannot hold a quote: {}", label);
  return fmt::format("context=\"{}\"", label);
}

}  // namespace veneer
