// What a store's layers, images and containers take on disk, and what of it could be had back.
#pragma once

#include <cstdint>
#include <vector>

#include "image/library.h"
#include "store/store.h"

namespace veneer {

struct ImageUse {
  ImageRecord record;
  uint64_t size_bytes = 0;
  uint64_t shared_bytes = 0;       // of layers that other images have, too
  uint64_t reclaimable_bytes = 0;  // what goes with it: 0 if containers use it
  uint64_t unique_bytes() const { return size_bytes - shared_bytes; }
};

struct DiskUse {
  struct Row {
    size_t count = 0;
    uint64_t size_bytes = 0;
    uint64_t shared_bytes = 0;       // of layers that several images, or snapshots, have
    uint64_t reclaimable_bytes = 0;  // see below
  };
  Row images;                        // what goes if all images without containers are removed
  Row containers;                    // what goes if all containers that are not mounted are removed
  std::vector<ImageUse> each_image;  // newest first
  Row layers;  // what no snapshot of any space has: goes with the next collection
};

// Everything is in the database, but for containers: those are walked.
DiskUse measure_disk_use(Store& store, Library& library);

struct LayerUse {
  LayerRecord layer;
  std::vector<VariantRecord> variants;
  size_t snapshots = 0;  // of all spaces
  uint64_t disk_bytes() const;
  std::string forms() const;  // "packed", "directory" or "packed+directory"
};
std::vector<LayerUse> list_layer_use(Meta::Transaction& transaction);

}  // namespace veneer
