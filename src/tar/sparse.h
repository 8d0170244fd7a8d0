// The maps of sparse files, in the four forms that GNU tar has written them.
//
// Source: GNU tar manual "Storing Sparse Files". A map lists offset and size of each segment of
// data; one without data often ends it, at the file's size.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "tar/entry.h"

namespace veneer::tar {

// Appends a segment unless it is empty. Throws corrupt if it does not lie after the one before,
// resource_exhausted beyond limits::kSparseSegments.
void add_segment(std::vector<Segment>& segments, const Segment& segment);

// Throws corrupt unless the segments lie inside `size` and have `stored_size` bytes together.
struct SparseSizes {
  uint64_t size = 0;
  uint64_t stored_size = 0;
};
void check_segments(const std::vector<Segment>& segments, const SparseSizes& sizes);

// The map in an old GNU header or an extension block: pairs of 12-byte numbers. False if it ended
// before the field did.
bool add_old_gnu_map(std::string_view field, std::vector<Segment>& segments);

// GNU.sparse.map of PAX 0.1: "offset,size,offset,size". Throws corrupt unless it has `count` pairs.
void add_listed_map(std::string_view list, uint64_t count, std::vector<Segment>& segments);

// The map before the data of PAX 1.0: lines with the number of segments, then offset and size of
// each, filled up to a block.
class SparseMapParser {
 public:
  // Takes the next block. True when the map is complete.
  bool take(std::string_view block, std::vector<Segment>& segments);

 private:
  void take_number(uint64_t number, std::vector<Segment>& segments);
  bool is_complete() const { return count_ == 0; }

  std::optional<uint64_t> count_;   // of the segments that are to come
  std::optional<uint64_t> offset_;  // of the segment whose size is to come
  std::optional<uint64_t> number_;  // the digits so far
};

}  // namespace veneer::tar
