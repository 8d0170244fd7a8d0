#include "store/lowers.h"

#include <sys/sysmacros.h>

#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/lock.h"
#include "layer/settle.h"
#include "mount/erofs.h"
#include "mount/mount.h"

namespace veneer {

namespace {

constexpr PathView kLockName = "lock";
constexpr PathView kEmptyName = "empty";

RelPath name_of(int64_t variant) {
  return RelPath::parse_name(std::to_string(variant), "variant");
}

UniqueFd lock_lowers(int dir) {
  UniqueFd lock = open_at(dir, kLockName, O_RDWR | O_CREAT, 0600);
  lock_fd(lock.get());
  return lock;
}

// The layer's directory, which has the variant's files.
UniqueFd open_layer(const Layout& layout, const VariantRecord& variant) {
  auto layer = maybe_open_dir_at(layout.layers(), Layout::digest_name(variant.diff_id));
  if (!layer) fail(Code::corrupt, "layer {} is not there", variant.diff_id.str());
  return std::move(*layer);
}

UniqueFd mount_index(int layer, const VariantRecord& variant) {
  const RelPath index = RelPath::parse_name(variant.name, "index");
  for (const PathView file : {PathView(index), kLayerTarName})
    if (!exists_at(layer, file))
      fail(Code::corrupt, "layer {} has no {}", variant.diff_id.str(), file.c_str());
  return mount_erofs(layer, {.index = index, .device = kLayerTarName});
}

// Short, as it is in each lower path.
std::string own_name(const Layout& layout, std::string_view identity) {
  const struct stat root = stat_fd(layout.root());
  const Digest hash = Sha256::of(
      fmt::format("{} {}:{} {}", identity, major(root.st_dev), minor(root.st_dev), root.st_ino));
  return hash.hex().substr(0, 12);
}

std::string tree_path(const Layout& layout, const VariantRecord& variant) {
  return fmt::format("{}/{}", layout.layer_path(variant.diff_id), variant.name);
}

}  // namespace

Lowers::Lowers(const Layout& layout, const std::string& run, std::string_view identity)
    : layout_(layout),
      dir_(open_or_make_root(fmt::format("{}/{}", run, own_name(layout, identity)), 0700).fd) {
  path_ = path_of(dir_.get());
}

std::string Lowers::path(const VariantRecord& variant) {
  const RelPath name = name_of(variant.id);
  std::string path = fmt::format("{}/{}", path_, name.str());
  const auto is_there = [&] {
    if (variant.form == Form::packed) return is_mount_point_at(dir_.get(), name);
    // A store that was moved has its links elsewhere.
    return exists_at(dir_.get(), name) &&
           read_link_at(dir_.get(), name) == tree_path(layout_, variant);
  };
  if (is_there()) return path;
  const UniqueFd lock = lock_lowers(dir_.get());
  if (is_there()) return path;
  const UniqueFd layer = open_layer(layout_, variant);
  if (variant.form == Form::packed) {
    const UniqueFd mount = mount_index(layer.get(), variant);
    (void)try_make_dir_at(dir_.get(), name, 0700);  // a reboot may have left it
    attach_mount(mount.get(), dir_.get(), name);
  } else {
    if (!exists_at(layer.get(), RelPath::parse_name(variant.name, "tree")))
      fail(Code::corrupt, "layer {} has no {}", variant.diff_id.str(), variant.name);
    (void)remove_tree_at(dir_.get(), name);
    make_symlink_at(tree_path(layout_, variant), dir_.get(), name);
  }
  return path;
}

std::string Lowers::empty_path() {
  (void)try_make_dir_at(dir_.get(), kEmptyName, 0755);
  return fmt::format("{}/{}", path_, kEmptyName.c_str());
}

UniqueFd Lowers::open(const VariantRecord& variant) {
  return open_root(path(variant));
}

void Lowers::release(int64_t variant) {
  const RelPath name = name_of(variant);
  const UniqueFd lock = lock_lowers(dir_.get());
  while (unmount_at(dir_.get(), name, Unmount::detach)) continue;
  (void)remove_tree_at(dir_.get(), name);  // an empty directory, or the link
}

}  // namespace veneer
