#include "erofs/chunks.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "erofs/format.h"

namespace veneer::erofs {
namespace {

bool is_aligned(const Extent& extent) {
  return (extent.file_offset - extent.device_offset) % kBlockBytes == 0;
}

// Whether the extent's last block is wholly in the device.
bool is_tail_in_device(const Extent& extent, uint64_t device_size) {
  return round_up(extent.device_offset + extent.size, kBlockBytes) <= device_size;
}

// How many chunks of that size have to be copied. Extents that share a chunk count it once.
uint64_t count_copied(const File& file, uint32_t bits) {
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  uint64_t copied = 0;
  uint64_t counted_up_to = 0;
  const auto count = [&](uint64_t first, uint64_t end) {
    first = std::max(first, counted_up_to);
    if (first < end) copied += end - first;
    counted_up_to = std::max(counted_up_to, end);
  };
  for (const Extent& extent : file.extents) {
    const uint64_t first = extent.file_offset >> bits;
    const uint64_t last = (extent.file_end() - 1) >> bits;
    if (!is_aligned(extent)) {
      count(first, last + 1);
      continue;
    }
    if ((extent.file_offset & mask) != 0) count(first, first + 1);
    const bool is_last_whole = extent.file_end() == file.size || (extent.file_end() & mask) == 0;
    if (!is_last_whole || !is_tail_in_device(extent, file.device_size)) count(last, last + 1);
  }
  return copied;
}

}  // namespace

ChunkPlan plan_chunks(const File& file) {
  const uint32_t most =
      std::clamp(static_cast<uint32_t>(std::bit_width(file.size - 1)), kBlockBits, kMaxChunkBits);
  ChunkPlan best;
  uint64_t best_cost = std::numeric_limits<uint64_t>::max();
  // From the largest down, until the indexes alone cost more than what was found.
  for (uint32_t bits = most; bits >= kBlockBits; --bits) {
    const uint64_t index_bytes = (((file.size - 1) >> bits) + 1) * sizeof(ChunkIndex);
    if (index_bytes >= best_cost) break;
    const uint64_t copied = count_copied(file, bits);
    const uint64_t cost = index_bytes + (copied << bits);
    if (cost < best_cost) {
      best_cost = cost;
      best = {.bits = bits, .copied = copied};
    }
  }
  return best;
}

bool ChunkCursor::next(Chunk& chunk) {
  if (at_ >= file_.size) return false;
  chunk.kind = Chunk::Kind::hole;
  chunk.begin = at_;
  chunk.end = at_ = std::min(at_ + (uint64_t{1} << bits_), file_.size);
  while (extent_ < file_.extents.size() && file_.extents[extent_].file_end() <= chunk.begin)
    ++extent_;
  if (extent_ == file_.extents.size()) return true;
  const Extent& extent = file_.extents[extent_];
  if (extent.file_offset >= chunk.end) return true;

  const bool is_covered = extent.file_offset <= chunk.begin && extent.file_end() >= chunk.end;
  chunk.device_offset = extent.device_offset + (chunk.begin - extent.file_offset);
  const bool is_direct =
      is_covered && is_aligned(extent) &&
      chunk.device_offset + round_up(chunk.end - chunk.begin, kBlockBytes) <= file_.device_size;
  chunk.kind = is_direct ? Chunk::Kind::device : Chunk::Kind::copied;
  return true;
}

}  // namespace veneer::erofs
