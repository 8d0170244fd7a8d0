// containerd's service of snapshots over a snapshotter: what a proxy plugin of type "snapshot"
// talks to (api/services/snapshots/v1).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "rpc/guarded.h"
#include "rpc/server.h"
#include "store/snapshotter.h"

namespace veneer {

// How many bytes may be written to a snapshot (containerd 2.4).
inline constexpr std::string_view kMaxSize = "containerd.io/snapshot/max-size";

struct SnapshotsOptions {
  // Called after each removal and for each Cleanup, to have the trash emptied in the background:
  // neither call waits for a deletion, as containerd holds a lock over all snapshots meanwhile.
  std::function<void()> on_removed;
  // Makes a layer that is asked for with these labels, over this parent, a committed snapshot, if
  // it can be had without being extracted: rpc/known_layer.h.
  std::function<std::optional<std::string>(std::string_view parent, const Labels& labels)>
      add_known_layer = {};
  // Gives a snapshot that was just prepared the layer that its labels name, if the store has it:
  // rpc/apply_layer.h.
  std::function<void(std::string_view key)> attach_known_layer = {};
};

// Snapshotter and observer's parts outlive the service. A snapshot that is to be limited in size
// (kMaxSize) is refused: failed_precondition.
RpcService make_snapshots_service(Snapshotter& snapshotter, SnapshotsOptions options,
                                  const Observer& observer);

}  // namespace veneer
