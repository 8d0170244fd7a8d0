// Copies of directory trees: the hard-linked one of image layers, and the full one of containers.
#pragma once

namespace veneer {

enum class CopyMode {
  link,  // directories are made anew, everything else is a hard link to the original's inode
  full,  // everything is made anew; hard links inside the tree stay hard links
};

// Copies what is in the open directory `from` into the empty directory `to`, on the same file
// system, and gives `to` the attributes of `from`. Several threads do it, which end with the call.
// Kept exactly: type, mode, owner, times to the nanosecond, all xattrs (so whiteouts and opaque
// marks too), device numbers, holes in files (full). An inode that can take no more links (EMLINK)
// is copied once, and the copy linked from then on. A mount point below `from` is refused with
// failed_precondition: it would hide what is to be copied. Throws resource_exhausted for trees
// deeper than limits::kPathDepth. A failure leaves a part of the copy in `to`, which the caller
// removes.
void copy_tree(int from, int to, CopyMode mode);

}  // namespace veneer
