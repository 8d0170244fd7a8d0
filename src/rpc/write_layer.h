// What changed between two snapshots as a compressed layer: the work of the differ's Diff, without
// its protocol.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "store/store.h"
#include "stream/compress.h"

namespace veneer {

struct WriteRequest {
  std::string_view space;
  std::vector<Mount> left;   // of what was, as the snapshotter gave them
  std::vector<Mount> right;  // of what is
  std::string media_type;    // "" for gzip's
  Labels labels;
};

struct WriteJob {
  int64_t snapshot = 0;
  std::optional<int64_t> before;  // a snapshot; none for nothing at all
  DiffOptions options;
  Compression compression = Compression::gzip;
  std::string media_type;
  Labels labels;
};

// Finds the snapshots. One that was prepared for a user namespace has its files' owners as they are
// inside. unsupported for other media types, and for mounts that are not ours.
WriteJob plan_write(Store& store, WriteRequest request);

// Writes the layer. Returns its DiffID. Throws what Store::write_changes() does.
Digest write_compressed(Store& store, const WriteJob& job, Sink& to);

}  // namespace veneer
