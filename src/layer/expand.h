// A layer in directory form: a LayerTree written out as an overlay directory.
#pragma once

#include "layer/lower.h"
#include "layer/tree.h"

namespace veneer {

struct ExpandOptions {
  // user.overlay.* in place of trusted.overlay.*, no devices but whiteouts, no xattrs of trusted.*:
  // for those who mount overlayfs with userxattr, without privileges.
  bool userxattr = false;
};

// Writes `tree` into the empty directory `to`: files with the data of `tar` that they name,
// whiteouts as character devices 0:0, opaque directories with overlayfs's xattr. `lower` has the
// files that hard links of the layer go to, which are copied up; it may be nullptr if the tree has
// none. Not synced.
void expand_layer(const LayerTree& tree, int tar, const LowerView* lower, int to,
                  const ExpandOptions& options);

}  // namespace veneer
