// overlayfs over idmapped layers (Linux 5.19).
#pragma once

#include <vector>

#include "base/idmap.h"
#include "mount/overlay.h"

namespace veneer {

// How the layers of an overlay show their owners (mount/idmap.h).
struct LayerMaps {
  std::vector<IdMaps> lower;  // of each lower directory
  IdMaps upper = {};          // of what is written, too
};

// As mount_overlay(); each layer is cloned and mapped first, and the clones go with the overlay.
// Upper and work are in one directory. Who mounts must have an id in the map of the upper:
// overlayfs makes directories in work as him. unsupported where the kernel or a layer's file system
// cannot map.
UniqueFd mount_mapped_overlay(const OverlaySpec& spec, const LayerMaps& maps);

}  // namespace veneer
