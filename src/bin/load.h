// An image file into a graph driver.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bin/progress.h"
#include "graphdriver/driver.h"
#include "image/archive.h"

namespace veneer {

struct LoadedLayer {
  std::string id;  // hex of the ChainID
  Digest diff_id;
  std::optional<uint64_t> size_bytes;  // of its regular files; unknown if the layer was there
  bool existed() const { return !size_bytes; }
};

// Puts the layers of `image` into `driver`, lowest first, each under the hex of its ChainID over
// the one before; layers that are there stay as they are. Blob size, blob digest (where the archive
// has one) and DiffID are verified before a layer becomes visible. On failure the layers below the
// failing one, which are whole, stay; the error names the layer. failed_precondition for an image
// without layers.
std::vector<LoadedLayer> load_image(const ImageArchive& image, Driver& driver,
                                    ImportProgress& progress);

// What a Progress shows of an image's layers.
std::vector<Progress::Layer> progress_layers(const ImageManifest& manifest);

}  // namespace veneer
