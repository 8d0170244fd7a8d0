// Mounts read back: of which snapshot is a mount that a client hands in?
//
// A client gets mounts from a snapshotter and may give them, and no key, to whoever is to fill or
// compare what they show. All that counts is their text, which comes from outside.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/store.h"

namespace veneer {

// The paths that a mount is made of.
struct MountPaths {
  std::string bind;   // the source of a bind mount
  std::string upper;  // of an overlay
  std::vector<std::string> lower;
};

// Nothing for a mount that is neither a bind mount nor an overlay, or that cannot be read.
std::optional<MountPaths> read_mount(const Mount& mount);

// The snapshot of `space` with this id.
std::optional<SnapshotRecord> maybe_snapshot_at(Meta::Transaction& transaction,
                                                std::string_view space, int64_t id);

// The snapshot of `space` that the mount shows. An active one is known by its own directory, and
// what else the mount names is not looked at. A mount to be read is of what lies on top of it: a
// committed or staged snapshot with just these lower directories, or a view that stands alone.
// Nothing for mounts of others. Reads all rows for a mount that starts with a packed layer.
std::optional<SnapshotRecord> find_mounted(Store& store, Meta::Transaction& transaction,
                                           std::string_view space, const Mount& mount);

}  // namespace veneer
