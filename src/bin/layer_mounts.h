// Layers opened for overlayfs, and the mounts of packed ones on <layer>/mnt, which overlays share.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/path.h"

namespace veneer {

// A layer's directory, opened for overlayfs to merge: its tree, or a detached mount of its index.
struct OpenedLayer {
  UniqueFd directory;
  UniqueFd tree;
  bool is_packed = false;
};

// Throws not_found for a directory that holds no layer; failed_precondition if it holds several
// indexes that lower layers contributed to; and what mount_erofs() does.
OpenedLayer open_layer(const std::string& path);
std::vector<OpenedLayer> open_layers(const std::vector<std::string>& paths);
// A path for overlayfs and for people: a packed layer is mounted on its mnt, if it is not yet.
// Who mounts holds a shared lock on the layer's directory until the overlay over it is there, so
// that let_go(), which takes the exclusive one, does not come between.
std::string lower_path(const OpenedLayer& layer);

// The lower directories of the overlay of layers that is mounted on `target`, an absolute path;
// nothing if there is none, or something else.
std::optional<std::vector<std::string>> stack_lowers(const std::string& target);

// Unmounts those of the paths <layer>/mnt that no overlay of this mount namespace has as a lower
// directory any more. Waits for those who lock the layer.
void let_go(const std::vector<std::string>& lowers);

}  // namespace veneer
