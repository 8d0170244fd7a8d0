// What changed between two views of a tree, and the layer tar that says it.
//
// A view is a stack of directories in overlayfs's own format (Documentation/filesystems/overlayfs.rst:
// whiteouts are character devices 0:0 or empty files with the overlay.whiteout xattr in a directory
// marked opaque=x; opaque directories carry trusted.overlay.opaque or user.overlay.opaque = "y"),
// read directly, not through a mount. Two views that share their lower layers are compared by what
// lies above them: a container costs its upper, not its image.
//
// Sources: image-spec layer.md, "Change Types" and "Whiteouts".
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/idmap.h"
#include "stream/stream.h"

namespace veneer {

// Borrowed descriptors of the layers' top directories, the topmost first. Never empty; a view of one
// plain directory is an image's unpacked tree. Layers at the end of two views that are the same
// directory (st_dev, st_ino) are shared.
struct View {
  std::vector<int> layers;
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
};

// Sorted by path. Directories above a change are in it as modified, as Docker shows them. Children of
// a removed directory are not listed, those of an added one are. Two names are unchanged if they
// are one inode, or agree in type, mode, owner, device, xattrs, size and time, and in content.
std::vector<Change> list_changes(const View& now, const std::optional<View>& before);

// Bytes of the regular files that the diff would carry; a group of hard links counts once.
uint64_t diff_size(const View& now, const std::optional<View>& before);

// Writes the layer tar: sorted, parents first, explicit whiteouts before their siblings and with
// mtime 0, whole-second mtimes, hard links to the first name of their inode in order (all names of
// a changed inode in the upper layers are in the tar, so that it stands alone), sockets left out.
// Xattrs by policy: security.capability, security.ima, user.* and POSIX ACLs are kept; overlay.*
// is interpreted or unescaped, never emitted raw; everything else is left out.
// Follows overlay.redirect and overlay.metacopy of layers that were mounted with them.
// Throws failed_precondition if a file changes while it is read: no torn entry is ever finished.
// Throws invalid_argument for names that a layer tar cannot carry (".wh." prefixes).
void write_diff(const View& now, const std::optional<View>& before, const DiffOptions& options,
                Sink& to);

}  // namespace veneer
