// Snapshots that clients fill through their mounts, kept as packed layers from their commit on.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "rpc/forwarding_snapshotter.h"
#include "rpc/log.h"
#include "store/store.h"

namespace veneer {

// An active snapshot in directory form is written as a tar, and that packed as a layer, before it
// is committed; the committed one gets the layer as its content in a second transaction, and loses
// its directory. A crash in between leaves it committed in directory form, which is as good. So
// does whatever keeps it from being packed, which is logged: the commit is what counts. What is
// rebased stays a directory, as its whiteouts say nothing yet.
//
// The directory goes, so a client must have unmounted it: containerd's unpacker and BuildKit have.
// The time of a commit grows with what was written; containerd holds its metadata's lock meanwhile.
class PackOnCommit final : public ForwardingSnapshotter {
 public:
  // `inner` is the snapshotter of `space` over this store. `on_removed` is called when there is
  // something in the trash. All that is given by reference outlives it.
  PackOnCommit(Snapshotter& inner, Store& store, std::string_view space, const Log& log,
               std::function<void()> on_removed);

  void commit(std::string_view name, std::string_view key, const CommitOptions& options) override;

 private:
  Store& store_;
  std::string space_;
  const Log& log_;
  std::function<void()> on_removed_;
};

}  // namespace veneer
