// The snapshotter over a store: open_snapshotter() of store/store.h. And what Store::mount() shares
// with it: how a snapshot is mounted.
#pragma once

#include <string>

#include "mount/overlay.h"
#include "store/meta.h"
#include "store/store.h"

namespace veneer {

// One mount: a directory that is bound, or an overlay.
struct MountPlan {
  std::string bind;  // "" for an overlay
  bool is_read_only = false;
  OverlaySpec overlay = {};
};

// How to mount an active snapshot or a view. Mounts its lower layers where they were not. An active
// one whose content is a layer already (staged) is mounted to be read.
MountPlan plan_mount(Store& store, Meta::Transaction& transaction, const SnapshotRecord& snapshot);

// The snapshot of that key. not_found.
SnapshotRecord require_snapshot(Meta::Transaction& transaction, std::string_view space,
                                std::string_view key);

}  // namespace veneer
