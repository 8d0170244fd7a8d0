// How a file's data is divided into chunks, which are what an EROFS image addresses.
//
// A file has chunks of one size, a power of two of blocks. Each is a hole, or a run of blocks of
// the device, or a run of blocks of the image. The last kind is for what the device does not hold
// in the kernel's way: data that starts within a block, a chunk that is only partly data, a last
// block cut short by the end of the device (the kernel does not read that).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace veneer::erofs {

struct Extent {
  uint64_t file_offset = 0;
  uint64_t device_offset = 0;
  uint64_t size = 0;  // in bytes, as the offsets

  uint64_t file_end() const { return file_offset + size; }
};

struct File {
  uint64_t size = 0;
  std::span<const Extent> extents;  // in order, not overlapping, not empty, within the size
  uint64_t device_size = 0;
};

struct Chunk {
  enum class Kind { hole, device, copied };
  Kind kind = Kind::hole;
  uint64_t begin = 0;  // in the file
  uint64_t end = 0;
  uint64_t device_offset = 0;  // for Kind::device
};

struct ChunkPlan {
  uint32_t bits = 0;    // log2 of the chunk's bytes
  uint64_t copied = 0;  // chunks of Kind::copied
};
// The chunk size that makes the image smallest. The file is not empty.
ChunkPlan plan_chunks(const File& file);

// The chunks of a file, in order.
class ChunkCursor {
 public:
  ChunkCursor(const File& file, uint32_t bits) : file_(file), bits_(bits) {}
  bool next(Chunk& chunk);
  // Goes to the last chunk of the file, which is not empty.
  void skip_to_last() { at_ = (file_.size - 1) >> bits_ << bits_; }

 private:
  File file_;
  uint32_t bits_;
  uint64_t at_ = 0;
  size_t extent_ = 0;
};

}  // namespace veneer::erofs
