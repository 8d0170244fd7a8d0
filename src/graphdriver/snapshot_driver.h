// The driver `veneer`: the graph driver's calls on a store.
//
// The home is the root of a store, the ids are keys of snapshots in the space "driver":
//
//   create(), create_read_write()     an active snapshot
//   apply_diff(), add_layer()         a committed one, whose content is a layer of the store
//   the first child of an active one  commits it where it is: it can be read from then on, and have
//                                     other children. Docker's "-init" layers become that
//   get() of a committed one          a view of it, under the key "view/<id>", which no id can be
//
// So, unlike in the driver `overlay`: a layer with children can be neither removed nor applied to
// (failed_precondition), and an image layer that is mounted is read-only.
//
// Options (--storage-opt): veneer.form=packed|directory, how layers are kept (packed by default,
// where the kernel can mount that); veneer.volatile=true|false: nothing is synced.
//
// Id maps are those of the mounts that get() makes, each over idmapped layers (Linux 5.19): on
// disk, as in layers, are the ids inside. The root of the host may write there, and so make what
// has no id inside; that diff() refuses until it is given to somebody who has one. All who open a
// home give the same maps; its directories then let the group of the root inside pass, and no
// others.
//
// Locks and counts: graphdriver/id_lock.h. The mount is the truth, as in overlay.h.
#pragma once

#include <memory>

#include "graphdriver/driver.h"

namespace veneer {

// Makes the store if need be. unsupported: id maps that cannot be mounted here. invalid_argument:
// unknown options, and maps without a root inside.
std::unique_ptr<Driver> open_snapshot_driver(const DriverOptions& options);

}  // namespace veneer
