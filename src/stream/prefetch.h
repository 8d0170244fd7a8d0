// A Source that is run on a thread of its own, for one reader or several.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <initializer_list>
#include <memory>
#include <thread>

#include "stream/stream.h"

namespace veneer {

// Reads `from` (borrowed) ahead into a ring of `chunks` buffers of kChunkBytes, so that what is
// below (reading, hashing, decompression) overlaps with what is above. Each of its readers gets all
// bytes, from the same memory, and may have a thread of its own; a buffer is filled anew when all
// of them have gone on. An exception from below is thrown to a reader in place of the failing
// bytes, after all the good ones.
class Prefetch {
 public:
  static constexpr size_t kChunks = 16;

  // What a reader takes at once: chunks that are full and lie behind one another. It waits for so
  // many, or for the end; the memory of the ring is aligned (stream/aligned.h).
  struct Reader {
    size_t chunks_at_once = 1;
  };
  Prefetch(Source& from, std::initializer_list<Reader> readers, size_t chunks = kChunks);
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;
  // Stops the thread, which may be waiting in `from` until that returns. Nobody may read any more.
  ~Prefetch();

  // As Source::next(), in the ring's own memory. After the end everything below is quiet, and its
  // state (digests, counts) may be read.
  Bytes next(size_t reader);
  // next() throws `why`, to all, from now on; unless what is below has failed: that comes in its
  // place.
  void abandon(std::exception_ptr why);

 private:
  class Ring;
  std::unique_ptr<Ring> ring_;
};

// One of the readers of a Prefetch (borrowed).
class PrefetchReader : public Source {
 public:
  PrefetchReader(Prefetch& from, size_t reader) : from_(from), reader_(reader) {}
  // Ignores the lent room.
  Bytes next(Room) override { return from_.next(reader_); }

 private:
  Prefetch& from_;
  size_t reader_;
};

// One of the readers, run by `read` on a thread of its own. When that throws, the others' next()
// does, too.
class PrefetchThread {
 public:
  PrefetchThread(Prefetch& from, size_t reader, std::function<void(Source&)> read);
  PrefetchThread(const PrefetchThread&) = delete;
  PrefetchThread& operator=(const PrefetchThread&) = delete;
  // Abandons the Prefetch, unless all is finished.
  ~PrefetchThread();

  // Waits for the end of `read`, and throws what it threw.
  void finish();

 private:
  void run() noexcept;

  Prefetch& from_;
  const size_t reader_;
  const std::function<void(Source&)> read_;
  std::exception_ptr error_;
  std::thread thread_;  // the last member: it starts when all others are there
};

// The only reader.
class PrefetchSource : public Source {
 public:
  explicit PrefetchSource(Source& from, size_t chunks = Prefetch::kChunks)
      : prefetch_(from, {{}}, chunks) {}
  Bytes next(Room) override { return prefetch_.next(0); }

 private:
  Prefetch prefetch_;
};

}  // namespace veneer
