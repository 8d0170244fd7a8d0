// Names looked up in a stack of overlay directories as overlayfs would, without mounting it.
//
// Sources: Documentation/filesystems/overlayfs.rst; fs/overlayfs/namei.c (ovl_lookup) for the order
// in which whiteouts, opaque marks, redirects and metacopy are heeded.
#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/at.h"
#include "layer/diff.h"

namespace veneer {

// What overlayfs's own xattrs say of one inode.
struct OverlayMarks {
  char opaque = '\0';  // 'y': nothing below is merged in; 'x': empty files here may be whiteouts
  bool whiteout = false;
  bool metacopy = false;  // the data is below
  std::string redirect;   // where below; "" for the same name
};

// One layer's directory among those that are merged into one.
struct DirPart {
  int fd = -1;
  UniqueFd own;  // holds `fd`, unless that is borrowed
  size_t layer = 0;
  dev_t device = 0;
  ino_t inode = 0;
  bool has_xattr_whiteouts = false;
};

// A directory of a view: the topmost part is the one whose attributes show. Without parts, a
// directory that is not there.
struct MergedDir {
  std::vector<DirPart> parts;
};

// What a name means in a merged directory: the topmost inode, and the part that it was found in.
struct Found {
  struct stat st{};
  size_t part = 0;
  // Set by read_attributes() and open_dir(): as a layer tar names them, sorted.
  std::vector<Xattr> xattrs;
  OverlayMarks marks;
};

class ViewReader {
 public:
  // The descriptors are borrowed for the life of the object.
  explicit ViewReader(const View& view) : view_(view) {}

  // The merged top directory. overlayfs merges the tops of all layers, opaque or not.
  MergedDir root(Found& found) const;
  // Nothing for a name that is not there, or deleted.
  std::optional<Found> find(const MergedDir& dir, PathView name) const;
  void read_attributes(const MergedDir& dir, PathView name, Found& found) const;
  // The directory that find() found.
  MergedDir open_dir(const MergedDir& dir, PathView name, Found& found) const;
  // The data of the regular file that find() found and whose attributes were read: its own, or that
  // of a lower file that it is a metacopy of. Throws failed_precondition if something else is there
  // by now: what is opened is a regular file, whatever a running container does meanwhile.
  UniqueFd open_data(const MergedDir& dir, PathView name, const Found& found) const;

 private:
  class Chase;

  OverlayMarks take_marks(std::vector<Xattr>& xattrs) const;
  OverlayMarks read_marks(int dir, PathView name) const;
  bool is_whiteout(const DirPart& dir, PathView name, const struct stat& st) const;
  std::optional<DirPart> walk(const DirPart& base, const RelPath& path, Chase& chase) const;
  template <typename Use>
  void look_below(const MergedDir& dir, size_t part, Chase& chase, Use use) const;

  const View& view_;
};

}  // namespace veneer
