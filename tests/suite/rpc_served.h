// The service of snapshots over a real store and a real socket, as veneerd puts it together.
#pragma once

#include <memory>
#include <string>

#include "base/at.h"
#include "mount/mount.h"
#include "rpc/apply_layer.h"
#include "rpc/known_layer.h"
#include "rpc/pack_on_commit.h"
#include "rpc/remap.h"
#include "rpc/snapshots_service.h"
#include "rpc/test_snapshotter.h"
#include "store/store.h"

namespace veneer::test {

// A server over a store, and a client of it; with all that can be put around a snapshotter, if
// asked for.
struct Served {
  Served(const std::string& scratch, const std::string& path, bool is_plain = true)
      : store(
            {.root = scratch + "/root", .run = scratch + "/run", .is_volatile = true, .form = {}}),
        snapshotter(open_snapshotter(store, "containerd")),
        packing(*snapshotter, store, "containerd", log, [this] { empty_trash(store.layout()); }),
        remapping(packing, store, "containerd"),
        server(path, {make_snapshots_service(top(is_plain), options(), {log, &metrics})}),
        remote(path) {}

  Snapshotter& top(bool is_plain) {
    if (is_plain) return *snapshotter;
    return remapping;
  }
  SnapshotsOptions options() {
    SnapshotsOptions options{.on_removed = [this] { empty_trash(store.layout()); }};
    options.add_known_layer = [this](std::string_view parent, const Labels& labels) {
      return maybe_add_known_layer(store, "containerd", parent, labels);
    };
    options.attach_known_layer = [this](std::string_view key) {
      attach_known_layer(store, "containerd", key);
    };
    return options;
  }

  Log log;
  Store store;
  Metrics metrics;
  std::unique_ptr<Snapshotter> snapshotter;
  PackOnCommit packing;
  RemappingSnapshotter remapping;
  RpcServer server;
  RemoteSnapshotter remote;
};

}  // namespace veneer::test
