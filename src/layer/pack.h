// A layer in packed form: its own tar, and an EROFS index over it.
//
// The tar is read once, front to back: every header becomes a node of a LayerTree, every body only
// flows past, and the index is written from the tree at the end. What lies on disk is described in
// docs/FORMAT.md, what an index must get right in layer/tree.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/digest.h"
#include "layer/tree.h"
#include "stream/stream.h"

namespace veneer {

// Reads a whole tar, to the end of `from`, into `tree`. Throws Error that names the entry and its
// offset. False for a tar without its end marker, which layers may lack.
bool read_layer_tree(Source& from, LayerTree& tree);

struct LayerTarInfo {
  Digest diff_id;
  uint64_t size_bytes = 0;
  uint64_t checksum = 0;  // CRC-64, stream/checksum.h
  bool has_end_marker = false;
};

// Copies the uncompressed stream `from` to the new file `tar` as it is read into `tree`: the
// straight line of a pull. `tar` is open for reading and writing, and not synced. What is below
// `from` runs on a thread of its own, and so does the writing.
LayerTarInfo store_layer_tar(Source& from, int tar, LayerTree& tree);

// Writes the index of `tree` over `tar` to the new file `index`; not synced. Returns its digest.
// Throws failed_precondition for a tree with hard links to files of lower layers, which only a
// directory can hold.
Digest write_index(const LayerTree& tree, int tar, const LayerTarInfo& info, int index);

// "layer.erofs", or "layer.<16 hex digits>.erofs" for an index that holds what lower layers
// contributed.
std::string index_name(const std::optional<Digest>& lower_digest);

}  // namespace veneer
