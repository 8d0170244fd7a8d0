#include "bin/layer_mounts.h"

#include <algorithm>
#include <string_view>

#include "base/at.h"
#include "base/error.h"
#include "base/lock.h"
#include "layer/settle.h"
#include "mount/erofs.h"
#include "mount/mount.h"

namespace veneer {
namespace {

// proc_pid_mountinfo(5): bytes that separate fields are written as a backslash and three digits.
std::string unescape(std::string_view text) {
  std::string plain;
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '\\' && at + 3 < text.size()) {
      plain += static_cast<char>((text[at + 1] - '0') * 64 + (text[at + 2] - '0') * 8 +
                                 (text[at + 3] - '0'));
      at += 3;
    } else {
      plain += text[at];
    }
  }
  return plain;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

struct MountLine {
  std::string target;
  // Of the root of an overlay.
  std::optional<std::vector<std::string>> lowers;
};

// overlayfs writes a backslash before colons, commas and backslashes of its own.
std::vector<std::string> split_lowerdir(std::string_view text) {
  std::vector<std::string> lowers(1);
  for (size_t at = 0; at < text.size(); ++at) {
    if (text[at] == ':')
      lowers.emplace_back();
    else
      lowers.back() += text[at] == '\\' && at + 1 < text.size() ? text[++at] : text[at];
  }
  return lowers;
}

// One option a directory (Linux 6.8), or one for all.
std::vector<std::string> read_lowers(std::string_view options) {
  constexpr std::string_view kEach = "lowerdir+=";
  constexpr std::string_view kAll = "lowerdir=";
  std::vector<std::string> lowers;
  for (const std::string_view option : split(options, ',')) {
    if (option.starts_with(kEach)) lowers.push_back(unescape(option.substr(kEach.size())));
    if (option.starts_with(kAll)) lowers = split_lowerdir(unescape(option.substr(kAll.size())));
  }
  return lowers;
}

// The mounts of this namespace, those on top of others after them. A line ends in the type, the
// source and the options of the file system; before them is a number of fields that varies.
std::vector<MountLine> read_mounts() {
  constexpr uint64_t kMostBytes = 64 << 20;
  constexpr size_t kRoot = 3;
  constexpr size_t kTarget = 4;
  constexpr size_t kLeast = 10;
  constexpr size_t kTypeFromEnd = 3;
  const std::string text = read_file_at(open_root("/proc/self").get(), "mountinfo", kMostBytes);
  std::vector<MountLine> mounts;
  for (const std::string_view line : split(text, '\n')) {
    const std::vector<std::string_view> fields = split(line, ' ');
    if (fields.size() < kLeast) continue;
    MountLine mount{.target = unescape(fields[kTarget]), .lowers = {}};
    if (fields[fields.size() - kTypeFromEnd] == "overlay" && fields[kRoot] == "/")
      mount.lowers = read_lowers(fields.back());
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

// The directory of the layer that a lower directory of an overlay belongs to.
std::optional<std::string> layer_of(std::string_view lower) {
  for (const std::string_view suffix : {"/mnt", "/fs", "/empty"})
    if (lower.ends_with(suffix)) return std::string(lower.substr(0, lower.size() - suffix.size()));
  return std::nullopt;
}

// An index that holds what lower layers contributed is the one to use over these.
RelPath choose_index(int directory, const std::string& path) {
  RelPath chosen;
  bool is_special = false;
  DirReader reader(directory);
  while (const std::optional<DirEntry> entry = reader.next()) {
    const std::string_view name = entry->name();
    if (!name.starts_with("layer.") || !name.ends_with(".erofs")) continue;
    const bool is_plain = name == "layer.erofs";
    if (is_plain && is_special) continue;
    if (!is_plain && is_special)
      fail(Code::failed_precondition, "{} is packed over several parents; keep one of its indexes",
           path);
    chosen = RelPath::parse_name(name, "index");
    is_special = !is_plain;
  }
  if (chosen.empty())
    fail(Code::not_found, "{} holds no layer: neither {} nor an index", path,
         kLayerTreeName.c_str());
  return chosen;
}

}  // namespace

OpenedLayer open_layer(const std::string& path) {
  OpenedLayer layer;
  layer.directory = open_root(path);
  if (auto tree = maybe_open_dir_at(layer.directory.get(), kLayerTreeName)) {
    layer.tree = std::move(*tree);
    return layer;
  }
  const RelPath index = choose_index(layer.directory.get(), path);
  layer.tree = mount_erofs(layer.directory.get(), {.index = index, .device = kLayerTarName});
  layer.is_packed = true;
  return layer;
}

std::vector<OpenedLayer> open_layers(const std::vector<std::string>& paths) {
  std::vector<OpenedLayer> layers;
  for (const std::string& path : paths) layers.push_back(open_layer(path));
  return layers;
}

std::string lower_path(const OpenedLayer& layer) {
  const std::string directory = path_of(layer.directory.get());
  if (!layer.is_packed) return directory + "/" + kLayerTreeName.c_str();
  (void)try_make_dir_at(layer.directory.get(), "mnt", 0700);
  if (!is_mount_point_at(layer.directory.get(), "mnt"))
    attach_mount(layer.tree.get(), layer.directory.get(), "mnt");
  return directory + "/mnt";
}

std::optional<std::vector<std::string>> stack_lowers(const std::string& target) {
  std::optional<std::vector<std::string>> lowers;
  for (MountLine& mount : read_mounts())
    if (mount.target == target) lowers = std::move(mount.lowers);
  if (!lowers) return std::nullopt;
  const auto is_of_layer = [](const std::string& lower) {
    const std::optional<std::string> layer = layer_of(lower);
    return layer && exists_at(open_nearest_root(*layer).get(), kLayerTarName);
  };
  if (!std::ranges::all_of(*lowers, is_of_layer)) return std::nullopt;
  return lowers;
}

void let_go(const std::vector<std::string>& lowers) {
  for (const std::string& lower : lowers) {
    if (!lower.ends_with("/mnt")) continue;
    const UniqueFd directory = open_root(*layer_of(lower));
    lock_fd(directory.get());
    const std::vector<MountLine> mounts = read_mounts();
    const bool is_used = std::ranges::any_of(mounts, [&](const MountLine& mount) {
      return mount.lowers && std::ranges::find(*mount.lowers, lower) != mount.lowers->end();
    });
    if (!is_used) (void)unmount_at(directory.get(), "mnt", Unmount::detach);  // it may not be there
  }
}

}  // namespace veneer
