// Docker's `overlay` graph driver: images are trees that share file data by hard links, containers
// are overlayfs mounts over one image tree. The on-disk format is Docker's (1.7 to 20.10), both
// ways.
//
//   home/                       0710, group of the mapped root
//     <id>/                     0700 (Docker: 0710)
//       root/                   an image layer: the whole tree
//     <id>/                     a container's layer:
//       lower-id                the id of the image layer below (no newline)
//       upper/ work/            of the overlay mount
//       merged/                 the mount; later Dockers make it at get, remove it at put
//       tmproot-veneer-<hex>/   an apply_diff() under way: locked by flock while it lives
//       tmproot<digits>/        the same of Docker, which locks nothing
//     .veneer-staging/          layers in the making, locked likewise; published by a rename
//
// An <id> with root/ and anything else is an apply_diff() that died just after its commit point:
// root/ is the truth. Opening the home removes what is unlocked and unpublished; what only Docker
// can have left, when it is an hour old: a Docker may be at work on the same home.
//
// Options (--storage-opt): overlay.volatile=true|false: do not sync layers before they are
// published. A power cut can then leave layers that are there and damaged.
//
// Counts and locks are files <run>/overlay/<hash of home>/<id>: the lock is flock on it, its text
// the number of get() not yet put(). The mount itself is the truth: a count without a mount is
// none, a mount without a count is adopted.
#pragma once

#include <memory>

#include "graphdriver/driver.h"

namespace veneer {

// Makes home if need be. unsupported, with what to do: no overlayfs in this kernel; a backing file
// system that overlay cannot have as an upper (aufs, btrfs, ecryptfs, nfs, overlay, zfs) or that
// does not report entry types. invalid_argument: unknown options.
std::unique_ptr<Driver> open_overlay_driver(const DriverOptions& options);

}  // namespace veneer
