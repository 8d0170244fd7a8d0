// EROFS images that are plain files, mounted without a loop device (Linux 6.12).
#pragma once

#include "base/fd.h"
#include "base/path.h"

namespace veneer {

struct ErofsFiles {
  PathView index;   // the image
  PathView device;  // its one extra device
};

// A detached mount of both files under `dir`: read-only, nosuid, nodev, noexec (an overlay above it
// still executes and honours set-uid). The kernel holds the files, so their names may go. It binds
// nothing: that the two belong together is the caller's to know. corrupt for an index that is
// damaged where the kernel looks at once; unsupported, with what to do, where file-backed EROFS
// mounts do not work: before Linux 6.12, and on tmpfs and overlayfs. Not for unprivileged user
// namespaces (EPERM).
UniqueFd mount_erofs(int dir, const ErofsFiles& files);

}  // namespace veneer
