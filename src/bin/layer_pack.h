// Several blobs packed as layers over each other, side by side.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "layer/settle.h"

namespace veneer {

struct PackJob {
  std::string blob;       // a path, or "-" for standard input, compressed or not
  std::string directory;  // made, or empty
};

struct PackOptions {
  std::vector<std::string> parents = {};  // layers below all jobs, the nearest first
  LayerForm form = LayerForm::packed;
  bool wants_blob_digests = false;
};

struct PackedLayer {
  std::optional<Digest> blob_digest;
  LayerTarInfo tar;
  SettledLayer settled;
};

// Packs each blob over those before it, and these over the parents. Durable when it returns. On
// failure all directories are left empty; the error names the blob.
std::vector<PackedLayer> pack_layers(const std::vector<PackJob>& jobs, const PackOptions& options);

}  // namespace veneer
