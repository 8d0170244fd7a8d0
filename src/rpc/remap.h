// Snapshots for user namespaces (containerd's "remap-ids" capability): what is below them shows
// its owners put through a map, and nothing is copied or chowned but one directory.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "base/idmap.h"
#include "rpc/forwarding_snapshotter.h"
#include "store/store.h"

namespace veneer {

// "container:host:size[,...]", set by the client for each snapshot of a container.
inline constexpr std::string_view kUidMapping = "containerd.io/snapshot/uidmapping";
inline constexpr std::string_view kGidMapping = "containerd.io/snapshot/gidmapping";

// A snapshot with these labels gets lower directories that are idmapped clones of the usual ones,
// and an upper that belongs to the root inside. It is told no option of idmapping, so any client
// that can mount can mount it (containerd before 2.3 loses lowers that are mounts when it maps them
// itself).
//
// The clones lie beside the lowers that they are of, <lower>.<map>: one for each map, shared by all
// snapshots that have it, gone with the last of them or with the lower. They outlive the process
// like the lowers, and are found again. Only for clients that count on it: others set the labels
// too, and copy and chown the layers themselves.
class RemappingSnapshotter final : public ForwardingSnapshotter {
 public:
  // `inner` is the snapshotter of `space` over this store. Both outlive it. Unmounts clones that
  // nothing needs any more.
  RemappingSnapshotter(Snapshotter& inner, Store& store, std::string_view space);

  SnapshotInfo update(const SnapshotInfo& info, const std::vector<std::string>& fields) override;
  std::vector<Mount> mounts(std::string_view key) override;
  // invalid_argument for maps that are none, or do not hold the owner of the top directory;
  // unsupported where the kernel or the file system cannot map.
  std::vector<Mount> prepare(std::string_view key, std::string_view parent,
                             const Labels& labels) override;
  std::vector<Mount> view(std::string_view key, std::string_view parent,
                          const Labels& labels) override;
  // failed_precondition for a mapped snapshot: its files' owners are those of the host, and would
  // be mapped once more in a layer.
  void commit(std::string_view name, std::string_view key, const CommitOptions& options) override;
  void remove(std::string_view key) override;

 private:
  std::vector<Mount> finish(std::string_view key, const IdMaps& maps, bool is_new);
  // These two with the mutex held.
  std::string clone(const std::string& path, const IdMaps& maps);
  void sweep();

  Store& store_;
  std::string space_;
  std::mutex mutex_;                                            // over the clones, and what follows
  std::map<std::string, std::string, std::less<>> map_of_key_;  // the names of both
};

}  // namespace veneer
