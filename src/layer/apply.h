// A layer tar applied to a directory tree: what every store does, and what the `overlay` driver is.
//
// Sources: image-spec layer.md ("Applying Changesets"); where that is silent, what containerd,
// Docker and umoci agree on.
#pragma once

#include <cstdint>

#include "base/idmap.h"
#include "stream/stream.h"

namespace veneer {

struct ApplyOptions {
  IdMaps id_maps;                // ids in the tar -> ids on disk
  bool through_overlay = false;  // the root is an overlay mount, not a plain tree
  // A tar without its end marker, which may be a part of one, is corrupt.
  bool needs_end_marker = false;
};

// Applies the uncompressed layer `tar`, read to its end, to the tree in the open directory `root`,
// which holds the merged lower layers (a plain copy of them, or an overlay mount). Returns the sum
// of the sizes of the regular files in the layer.
//
//  - The order of entries does not matter for whiteouts and opaque marks: they remove what the tree
//  had
//    before, never what this layer makes; a directory that the layer removes and makes again is
//    new.
//  - Files are replaced, never written in place, and the attributes of a file that exists are never
//    changed: inodes that other trees share by hard links stay as they are.
//  - Names are relative to the root, also absolute ones; links on the way are followed inside
//    the root. A name or hard-link target that climbs out with ".." is refused, as Docker does.
//  - Directories that only the names of others imply are made 0755 root:root with time 0, in place
//    of what is there, or where a link there leads. A directory entry for a directory that exists
//    replaces its attributes.
//  - Directories get their times at the very end; those that no entry names keep the ones they had.
//  - Hard links carry no attributes of their own. Character devices 0:0 are refused: on disk they
//    are whiteouts. trusted.overlay.* is stored escaped; the rest by layer/xattr_policy.h.
//
// Small files are made by threads of its own (layer/file_writer.h), which end with the call.
//
// Throws Error that names the entry and its offset in the tar: corrupt (the tar; a hard link to
// nothing), invalid_argument (what a layer may not hold), resource_exhausted, io. Then the tree is
// half made: the caller throws it away.
uint64_t apply_layer(Source& tar, int root, const ApplyOptions& options);

}  // namespace veneer
