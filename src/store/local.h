// The snapshotter over a store: open_snapshotter() of store/store.h. And what Store::mount() shares
// with it: how a snapshot is mounted.
#pragma once

#include <string>

#include "base/idmap.h"
#include "mount/overlay.h"
#include "store/meta.h"
#include "store/recover.h"
#include "store/store.h"

namespace veneer {

// One mount: a directory that is bound, or an overlay.
struct MountPlan {
  std::string bind;  // "" for an overlay
  bool is_read_only = false;
  OverlaySpec overlay = {};
  // How the mount shows owners. On disk there are only the ids inside, and for files of the host's
  // root one that is in no map (IdMap::with_host_root()).
  IdMaps id_maps = {};
};

// How to mount an active snapshot or a view. Mounts its lower layers where they were not. An active
// one whose content is a layer already (staged) is mounted to be read.
MountPlan plan_mount(Store& store, Meta::Transaction& transaction, const SnapshotRecord& snapshot);

// A new active snapshot or view as a part of the caller's transaction: its row is in it, its
// directory in place. done() after the commit; what has no row then is an orphan (store/recover.h).
// Throws as Snapshotter::prepare() does.
class NewSnapshot {
 public:
  struct Wanted {
    Kind kind = Kind::active;
    std::string_view space;
    std::string_view key;
    std::string_view parent;
    Labels labels = {};
  };
  NewSnapshot(Store& store, Meta::Transaction& transaction, const Wanted& wanted);
  int64_t id() const { return id_; }
  const MountPlan& plan() const { return plan_; }
  void done() { orphans_.done(); }

 private:
  OrphanGuard orphans_;
  int64_t id_ = 0;
  MountPlan plan_;
};

// Makes the directory of an active snapshot or a view, and puts it in its place, durable unless
// the next to open the store would make it anew (store/recover.h). What is in its place goes to
// trash. The caller has a transaction that writes.
void make_snapshot_directory(Store& store, const SnapshotRecord& snapshot, const MountPlan& plan);

// Mounts it on its merged/, which is made, and returns that path. It may be a NewSnapshot, whose
// row is not committed yet: if it never is, the mount goes with the orphan. unsupported: id maps
// that the kernel or the file system cannot mount.
std::string mount_snapshot(Store& store, int64_t id, const MountPlan& plan);

// The snapshot of that key. not_found.
SnapshotRecord require_snapshot(Meta::Transaction& transaction, std::string_view space,
                                std::string_view key);

}  // namespace veneer
