// A Source that runs the one below it on a thread of its own.
#pragma once

#include <memory>

#include "stream/stream.h"

namespace veneer {

// Reads `from` (borrowed) ahead into a ring of `chunks` buffers of kChunkBytes, so that what is
// below (reading, hashing, decompression) overlaps with what is above. next() ignores the lent room
// and gives out the ring's own memory. An exception from below is thrown by the next() that would
// have returned the failing bytes, after all the good ones. The destructor stops the thread, which
// may be waiting in `from` until that returns. After next() has returned the end, everything below
// is quiet and its state (digests, counts) may be read from the consumer's thread.
class PrefetchSource : public Source {
 public:
  explicit PrefetchSource(Source& from, size_t chunks = 16);
  ~PrefetchSource() override;
  Bytes next(Room room) override;

 private:
  class Ring;
  std::unique_ptr<Ring> ring_;
};

}  // namespace veneer
