// What changed between two views of a tree, and the layer tar that says it.
//
// A view is a stack of directories in overlayfs's own format
// (Documentation/filesystems/overlayfs.rst: whiteouts are character devices 0:0 or empty files with
// the overlay.whiteout xattr in a directory marked opaque=x; opaque directories carry
// trusted.overlay.opaque or user.overlay.opaque = "y"), read directly, not through a mount. Two
// views that share their lower layers are compared by what lies above them: a container costs its
// upper, not its image.
//
// Sources: image-spec layer.md, "Change Types" and "Whiteouts".
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/idmap.h"
#include "stream/stream.h"

namespace veneer {

// Whose xattrs mark whiteouts, opaque directories, redirects and metacopies. A mount heeds one kind
// only: user.overlay.* with its `userxattr` option, else trusted.overlay.*. To it the other kind is
// data: any process in a container can set it, and packed layers have both (for mounts in user
// namespaces), of which a copied-up directory keeps user.overlay.*. So the view must say how it is
// mounted.
enum class Marks { trusted, user };

// Borrowed descriptors of the layers' top directories, the topmost first. Never empty; a view of
// one plain directory is an image's unpacked tree. Layers at the end of two views that are the same
// directory (st_dev, st_ino) are shared. As in a mount, marks on the tops themselves count for
// nothing: all layers are merged. A mount with index=on shows more than its layers say (its work
// directory knows which lower names have become links to a changed inode): it is no such view.
struct View {
  std::vector<int> layers;
  Marks marks = Marks::trusted;
};

enum class ChangeKind { modify, add, remove };

struct Change {
  ChangeKind kind = ChangeKind::modify;
  std::string path;  // "/a/b"
  bool operator==(const Change&) const = default;
};

struct DiffOptions {
  IdMaps id_maps;  // host ids on disk -> container ids in the tar
  // Times later than this are clamped to it (SOURCE_DATE_EPOCH).
  std::optional<int64_t> epoch;
  // For a layer that takes the place of `now`. One for others has whole seconds, as what Docker and
  // containerd write: some readers round.
  bool keeps_nanoseconds = false;
};

// What a person would call changed, as Docker lists it, sorted by path. Directories above a change
// are in it as modified, the top directory never is. Children of a removed directory are not
// listed, those of an added one are; a new type is a modification. Two names are unchanged if they
// are one inode, or agree in type, mode, owner, device, xattrs, size and time, and in content.
// Times agree if one of them has only whole seconds and the other falls into the same; those of
// directories do not matter.
std::vector<Change> list_changes(const View& now, const std::optional<View>& before);

// Bytes of the regular files that write_diff() would carry; a group of hard links counts once.
uint64_t diff_size(const View& now, const std::optional<View>& before);

// Writes the layer tar that makes `now` of `before`, or of nothing: what is listed, and directories
// of which only the time (in seconds) differs. In each directory the names are sorted bytewise,
// explicit whiteouts first, a directory before what is in it. Whiteouts have mtime 0, all else
// whole seconds unless asked. The top directory is there as "./" only if it differs from before's,
// or, without one, from 0755 root:root without xattrs (its time aside). Sockets are not there, as
// in no tar; one in place of something else is written as a removal.
//
// Hard links go to the first name of their inode. All names of an inode are in the tar, unless
// before has the very same inode there, also those that are not listed, so that each group of links
// stands alone.
//
// Xattrs by layer/xattr_policy.h. overlay.redirect and overlay.metacopy are followed, wherever the
// layers have them. One descriptor is open a layer and level, for the layers that have the
// directory.
//
// Throws failed_precondition if a file changes while it is read: no torn entry is ever finished;
// invalid_argument for names that a layer tar cannot carry (".wh." prefixes) and ids outside the
// maps; corrupt for overlay marks that lead nowhere; resource_exhausted for paths beyond the
// limits.
void write_diff(const View& now, const std::optional<View>& before, const DiffOptions& options,
                Sink& to);

}  // namespace veneer
