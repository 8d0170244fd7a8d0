// Idmapped mounts (mount_setattr(2), Linux 5.12): a file's owner in the mount is its owner on disk,
// put through a map.
#pragma once

#include "base/idmap.h"

namespace veneer {

// Makes a detached mount that was never attached (one from clone_mount(), mount_erofs(), ...) show
// the id `container` on disk as `host`, and write it so. Identity maps change nothing. unsupported
// where the kernel or the file system has no idmapped mounts; an overlay mount itself is one of
// those: map its lower directories.
void idmap_mount(int mount, const IdMaps& maps);

}  // namespace veneer
