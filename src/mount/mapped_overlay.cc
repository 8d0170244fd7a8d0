#include "mount/mapped_overlay.h"

#include <string>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "mount/fs_context.h"
#include "mount/idmap.h"

namespace veneer {

namespace {

UniqueFd clone_mapped(const std::string& path, const IdMaps& maps) {
  UniqueFd clone = clone_mount(open_root(path).get(), ".");
  idmap_mount(clone.get(), maps);
  return clone;
}

std::string parent_of(const std::string& path) {
  return path.substr(0, path.rfind('/'));
}

std::string leaf_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

// Before Linux 6.15 overlayfs takes no layer from a detached mount, so the clones have places: in a
// file system that is mounted over the directory of the topmost lower, as no path is shorter that
// is sure to be there.
class Places {
 public:
  explicit Places(std::string path) : path_(std::move(path)) {
    FsContext context("tmpfs");
    context.set("source", "tmpfs");
    if (const int error_number = context.try_create()) context.fail_with(error_number, path_);
    fs_ = context.mount(0);
    attach_mount(fs_.get(), open_root(path_).get(), ".");
  }

  std::string put(const UniqueFd& mount) {
    const RelPath name = RelPath::parse_name(std::to_string(count_++), "place");
    make_dir_at(fs_.get(), name, 0700);
    attach_mount(mount.get(), fs_.get(), name);
    return fmt::format("{}/{}", path_, name.str());
  }

 private:
  std::string path_;
  UniqueFd fs_;
  size_t count_ = 0;
};

}  // namespace

UniqueFd mount_mapped_overlay(const OverlaySpec& spec, const LayerMaps& maps) {
  VENEER_CHECK(maps.lower.size() == spec.lower.size());
  VENEER_CHECK(parent_of(spec.upper) == parent_of(spec.work));
  (void)to_mount(spec);  // checks it
  return build_unseen([&] {
    // All, before the first of them is hidden.
    std::vector<UniqueFd> lowers;
    for (size_t i = 0; i < spec.lower.size(); ++i)
      lowers.push_back(clone_mapped(spec.lower[i], maps.lower[i]));
    UniqueFd upper;
    if (!spec.upper.empty()) upper = clone_mapped(parent_of(spec.upper), maps.upper);

    Places places(parent_of(spec.lower.front()));
    OverlaySpec mapped = spec;
    for (size_t i = 0; i < lowers.size(); ++i) mapped.lower[i] = places.put(lowers[i]);
    if (!spec.upper.empty()) {
      const std::string place = places.put(upper);
      mapped.upper = fmt::format("{}/{}", place, leaf_of(spec.upper));
      mapped.work = fmt::format("{}/{}", place, leaf_of(spec.work));
    }
    return mount_overlay(mapped);
  });
}

}  // namespace veneer
