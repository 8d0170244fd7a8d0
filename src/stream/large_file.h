// A Sink that writes a new file without filling the page cache with it.
#pragma once

#include <cstdint>
#include <memory>

#include "stream/stream.h"

namespace veneer {

// Appends to `file`, a new and empty one that is open for writing (borrowed). Its first
// cached_bytes (a multiple of 4096) stay in the page cache, for who reads the file next, and the
// kernel is told to write them out as they come. What follows goes to the disk past the cache
// (O_DIRECT, open(2)), on a thread of its own, where the file system can do that: it costs half as
// much, and a large file does not push out of memory what is in use there. No other descriptor may
// write meanwhile.
class LargeFileSink : public Sink {
 public:
  static constexpr uint64_t kCachedBytes = 64 << 20;

  explicit LargeFileSink(int file, uint64_t cached_bytes = kCachedBytes);
  // Abandons what is not written yet.
  ~LargeFileSink() override;
  // A failure to write is thrown by this or a later call. SysError.
  void write(Bytes bytes) override;
  // Afterwards the file has all bytes (not synced), and its descriptor reads and writes as before.
  void finish();

 private:
  class DirectWriter;

  void write_cached(Bytes bytes);

  int file_;
  uint64_t cached_bytes_;
  uint64_t cached_ = 0;   // written through the page cache
  uint64_t started_ = 0;  // of that, what the kernel was told to write out
  std::unique_ptr<DirectWriter> direct_;
};

}  // namespace veneer
