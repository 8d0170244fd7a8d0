#include "layer/view.h"

#include <sys/stat.h>

#include <string>
#include <utility>

#include "base/error.h"
#include "base/path.h"
#include "layer/whiteout.h"
#include "layer/xattr_policy.h"

namespace veneer {

namespace {

DirPart make_part(UniqueFd fd, size_t layer, const OverlayMarks& marks) {
  const struct stat st = stat_fd(fd.get());
  const int borrowed = fd.get();
  return {.fd = borrowed,
          .own = std::move(fd),
          .layer = layer,
          .device = st.st_dev,
          .inode = st.st_ino,
          .has_xattr_whiteouts = marks.opaque == 'x'};
}

// A running container may put a device or a FIFO in a file's place, whose open has effects. So the
// name is looked at through O_PATH first, and opened only through that.
UniqueFd open_regular(int dir, PathView name, const struct stat& expected) {
  const std::optional<UniqueFd> handle = maybe_open_at(dir, name, O_PATH | O_NOFOLLOW);
  if (handle) {
    const struct stat st = stat_fd(handle->get());
    if (S_ISREG(st.st_mode) && st.st_dev == expected.st_dev && st.st_ino == expected.st_ino)
      return open_root(fmt::format("/proc/self/fd/{}", handle->get()), O_RDONLY);
  }
  fail(Code::failed_precondition, "{} was replaced while it was read", name.c_str());
}

}  // namespace

// The path of one name from layer to layer: a redirect changes it for the layers below, and an
// absolute one makes it a path from their top directories.
class ViewReader::Chase {
 public:
  explicit Chase(PathView name) { path_.push(name.c_str()); }

  const RelPath& path() const { return path_; }
  bool absolute() const { return absolute_; }
  // No layer below counts any more.
  bool stopped() const { return stopped_; }
  void stop() { stopped_ = true; }

  // Heeds the marks of an inode that stands where the path's last `rest` bytes begin: a component,
  // and with a slash `after` it what follows.
  void heed(const OverlayMarks& marks, size_t rest, std::string_view after) {
    if (marks.opaque == 'y') {
      stopped_ = true;
      return;
    }
    if (marks.redirect.empty()) return;
    const bool absolute = marks.redirect.starts_with('/');
    std::string path;
    if (absolute) {
      // It outlives an opaque directory on the way to it.
      stopped_ = false;
      absolute_ = true;
    } else {
      path = path_.str().substr(0, path_.str().size() - rest);
    }
    path += std::string_view(marks.redirect).substr(absolute ? 1 : 0);
    if (!after.empty()) path.append("/").append(after);
    redirect_to(path, absolute || !marks.redirect.contains('/'));
  }
  void heed(const OverlayMarks& marks) { heed(marks, path_.name().size(), {}); }

 private:
  void redirect_to(const std::string& path, bool valid) {
    const RelPath clamped = RelPath::clamp(path);
    if (!valid || clamped.empty() || clamped.str() != path)
      fail(Code::corrupt, "overlay redirect to \"{}\"", path);
    path_ = clamped;
  }

  RelPath path_;
  bool absolute_ = false;
  bool stopped_ = false;
};

MergedDir ViewReader::root(Found& found) const {
  MergedDir dir;
  for (const int layer : view_.layers) {
    // Opened anew, for a position of its own to list from.
    UniqueFd fd = open_dir_at(layer, ".");
    std::vector<Xattr> xattrs = read_xattrs_at(fd.get(), ".");
    const OverlayMarks marks = take_marks(xattrs);
    if (dir.parts.empty()) {
      found.st = stat_fd(fd.get());
      found.xattrs = std::move(xattrs);
    }
    dir.parts.push_back(make_part(std::move(fd), dir.parts.size(), marks));
  }
  return dir;
}

// Leaves what a layer tar has, by its names there and still sorted (those that change all lose the
// same piece in the middle), and returns what overlayfs acts on.
OverlayMarks ViewReader::take_marks(std::vector<Xattr>& xattrs) const {
  OverlayMarks marks;
  size_t kept = 0;
  for (Xattr& xattr : xattrs) {
    const std::string_view name = xattr.name;
    const bool heeded = name.starts_with("user.") == (view_.marks == Marks::user);
    if (const std::optional<std::string_view> key = overlay_key(name); key && heeded) {
      if (*key == "opaque" && xattr.value.size() == 1) marks.opaque = xattr.value[0];
      if (*key == "whiteout") marks.whiteout = true;
      if (*key == "metacopy") marks.metacopy = true;
      if (*key == "redirect") marks.redirect = std::move(xattr.value);
    }
    std::optional<std::string> in_tar = xattr_name_to_tar(name);
    if (!in_tar) continue;
    xattr.name = std::move(*in_tar);
    if (&xattrs[kept] != &xattr) xattrs[kept] = std::move(xattr);
    ++kept;
  }
  xattrs.resize(kept);
  return marks;
}

OverlayMarks ViewReader::read_marks(int dir, PathView name) const {
  std::vector<Xattr> xattrs = read_xattrs_at(dir, name);
  return take_marks(xattrs);
}

bool ViewReader::is_whiteout(const DirPart& dir, PathView name, const struct stat& st) const {
  if (is_whiteout_device(st)) return true;
  return dir.has_xattr_whiteouts && S_ISREG(st.st_mode) && st.st_size == 0 &&
         read_marks(dir.fd, name).whiteout;
}

std::optional<Found> ViewReader::find(const MergedDir& dir, PathView name) const {
  for (size_t part = 0; part < dir.parts.size(); ++part) {
    const std::optional<struct stat> st = maybe_stat_at(dir.parts[part].fd, name);
    if (!st) continue;
    if (is_whiteout(dir.parts[part], name, *st)) return std::nullopt;
    return Found{.st = *st, .part = part, .xattrs = {}, .marks = {}};
  }
  return std::nullopt;
}

void ViewReader::read_attributes(const MergedDir& dir, PathView name, Found& found) const {
  found.xattrs = read_xattrs_at(dir.parts[found.part].fd, name);
  found.marks = take_marks(found.xattrs);
}

// The directory in `base` that may hold the last component of `path`.
std::optional<DirPart> ViewReader::walk(const DirPart& base, const RelPath& path,
                                        Chase& chase) const {
  DirPart here;
  here.fd = base.fd;
  here.has_xattr_whiteouts = base.has_xattr_whiteouts;
  std::string_view rest = path.str();
  for (size_t slash; (slash = rest.find('/')) != std::string_view::npos;) {
    RelPath name;
    name.push(rest.substr(0, slash));
    const std::string_view after = rest.substr(slash + 1);
    const std::optional<struct stat> st = maybe_stat_at(here.fd, name);
    if (!st) return std::nullopt;
    if (!S_ISDIR(st->st_mode)) {  // a whiteout among other things
      chase.stop();
      return std::nullopt;
    }
    UniqueFd fd = open_dir_at(here.fd, name);
    const OverlayMarks marks = read_marks(fd.get(), ".");
    chase.heed(marks, rest.size(), after);
    here = make_part(std::move(fd), base.layer, marks);
    rest = after;
  }
  return here;
}

// Calls use(place, name, stat) for what the layers below `part` have, until it returns false.
template <typename Use>
void ViewReader::look_below(const MergedDir& dir, size_t part, Chase& chase, Use use) const {
  size_t layer = dir.parts[part].layer;
  while (!chase.stopped()) {
    DirPart top;
    const bool absolute = chase.absolute();
    if (absolute) {
      if (++layer == view_.layers.size()) return;
      top.fd = view_.layers[layer];
      top.has_xattr_whiteouts = read_marks(top.fd, ".").opaque == 'x';
    } else {
      if (++part == dir.parts.size()) return;
      layer = dir.parts[part].layer;
    }
    const RelPath path = chase.path();
    std::optional<DirPart> place = walk(absolute ? top : dir.parts[part], path, chase);
    if (!place) continue;
    place->layer = layer;
    const std::optional<struct stat> st = maybe_stat_at(place->fd, path.leaf());
    if (!st) continue;
    if (is_whiteout(*place, path.leaf(), *st) || !use(*place, path.leaf(), *st)) return;
  }
}

MergedDir ViewReader::open_dir(const MergedDir& dir, PathView name, Found& found) const {
  UniqueFd top = open_dir_at(dir.parts[found.part].fd, name);
  found.xattrs = read_xattrs_at(top.get(), ".");
  found.marks = take_marks(found.xattrs);
  Chase chase(name);
  chase.heed(found.marks);
  MergedDir merged;
  merged.parts.push_back(make_part(std::move(top), dir.parts[found.part].layer, found.marks));
  look_below(dir, found.part, chase, [&](const DirPart& place, PathView leaf, const auto& st) {
    if (!S_ISDIR(st.st_mode)) return false;
    UniqueFd fd = open_dir_at(place.fd, leaf);
    const OverlayMarks marks = read_marks(fd.get(), ".");
    chase.heed(marks);
    merged.parts.push_back(make_part(std::move(fd), place.layer, marks));
    return true;
  });
  return merged;
}

UniqueFd ViewReader::open_data(const MergedDir& dir, PathView name, const Found& found) const {
  if (!found.marks.metacopy) return open_regular(dir.parts[found.part].fd, name, found.st);
  Chase chase(name);
  chase.heed(found.marks);
  UniqueFd data;
  look_below(dir, found.part, chase, [&](const DirPart& place, PathView leaf, const auto& st) {
    if (!S_ISREG(st.st_mode)) return false;
    const OverlayMarks marks = read_marks(place.fd, leaf);
    if (!marks.metacopy) data = open_regular(place.fd, leaf, st);
    chase.heed(marks);
    return marks.metacopy;
  });
  if (!data) fail(Code::corrupt, "{} has its data in a lower file that is missing", name.c_str());
  return data;
}

}  // namespace veneer
