// containerd's service of layers over a store: what a proxy plugin of type "diff" talks to
// (api/services/diff/v1), which is containerd 2.0 and later.
#pragma once

#include <functional>
#include <string>

#include "rpc/guarded.h"
#include "rpc/server.h"
#include "store/store.h"

namespace veneer {

struct DiffServiceOptions {
  std::string space;  // of the snapshots whose mounts come in
  // containerd's socket, as ContentClient takes it. Without one no blob can be written, and only
  // those in `content_dir` can be read.
  std::string containerd = {};
  // containerd's "io.containerd.content.v1.content", whose blobs are read as files; "" for none. A
  // blob that is not there is asked for.
  std::string content_dir = {};
  // Called when there is something in the trash.
  std::function<void()> on_removed = {};
};

// Store and observer's parts outlive the service. invalid_argument for an address that is none.
RpcService make_diff_service(Store& store, DiffServiceOptions options, const Observer& observer);

}  // namespace veneer
