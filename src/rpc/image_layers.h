// The image that a blob is a layer of, as containerd's content store has it: what tells which
// layers will be asked for next.
#pragma once

#include <string>
#include <vector>

#include "base/digest.h"
#include "rpc/content_client.h"
#include "rpc/read_ahead.h"

namespace veneer {

struct LayerPlace {
  std::string space;          // containerd's namespace
  Digest blob;                // of the layer
  std::vector<Digest> below;  // DiffIDs of the layers below it, lowest first
};

// The layers above that one, lowest first, whose blobs are files in `content_dir`: those that have
// come so far. containerd's labels for its garbage collection name the manifests of which the blob
// is that layer (images.ChildGCLabels), and a manifest's config says what the layers' DiffIDs are;
// both are verified. Nothing where several images have such a layer, and other layers above.
// Throws what the client does, and corrupt for documents that are not what they should be.
std::vector<AheadLayer> find_layers_above(const ContentClient& client,
                                          const std::string& content_dir, const LayerPlace& place);

}  // namespace veneer
