// Bytes in, bytes out: the two interfaces that layer data flows through, and the plain ones.
//
// A pipeline is a Source over a Source, read top to bottom where it is built. Nothing copies a byte
// that it does not transform: the reader lends room, and what comes back lies either in that room
// or in memory of the source.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/at.h"
#include "base/digest.h"
#include "base/fd.h"

namespace veneer {

using Room = std::span<std::byte>;

// What a caller lends to Source::next(), and the size that every buffer of a pipeline has: it fits
// the second-level cache beside the state of a decompressor.
inline constexpr size_t kChunkBytes = 256 * 1024;

class Source {
 public:
  virtual ~Source() = default;
  // The next bytes of the stream: at least one, at most any number; none at the end, and then
  // always none. They lie either in `room`, which must be kChunkBytes or more and which the source
  // leaves alone from then on, or in memory of the source, where they stay until the next call.
  // Throws what the stages throw (corrupt, io, resource_exhausted); after that the source must not
  // be used again.
  virtual Bytes next(Room room) = 0;
};

class Sink {
 public:
  virtual ~Sink() = default;
  virtual void write(Bytes bytes) = 0;
};

// A borrowed descriptor, read from its current position.
class FdSource : public Source {
 public:
  explicit FdSource(int fd) : fd_(fd) {}
  Bytes next(Room room) override;

 private:
  int fd_;
};

// The same with a descriptor of its own.
class FileSource : public Source {
 public:
  explicit FileSource(UniqueFd file) : file_(std::move(file)), source_(file_.get()) {}
  Bytes next(Room room) override { return source_.next(room); }

 private:
  UniqueFd file_;
  FdSource source_;
};

// A part of a file that does not move the file position (several may read one descriptor). Throws
// corrupt if the file ends before the part does.
class FileRangeSource : public Source {
 public:
  FileRangeSource(int fd, uint64_t offset, uint64_t size) : fd_(fd), offset_(offset), left_(size) {}
  Bytes next(Room room) override;

 private:
  int fd_;
  uint64_t offset_;
  uint64_t left_;
};

// Borrowed memory, given out in pieces of at most `piece` bytes (tests use small ones).
class MemorySource : public Source {
 public:
  explicit MemorySource(Bytes bytes, size_t piece = kChunkBytes) : left_(bytes), piece_(piece) {}
  Bytes next(Room room) override;

 private:
  Bytes left_;
  size_t piece_;
};

// Passes bytes on, digests and counts them.
class HashingSource : public Source {
 public:
  explicit HashingSource(Source& from) : from_(from) {}
  Bytes next(Room room) override;
  // Of all that has passed; call it once, when the stream is at its end.
  Digest digest() { return sha_.finish(); }
  uint64_t count() const { return count_; }

 private:
  Source& from_;
  Sha256 sha_;
  uint64_t count_ = 0;
};

// Passes bytes on and tells `seen` of every piece's size (progress) before it does.
class CountingSource : public Source {
 public:
  CountingSource(Source& from, std::function<void(size_t)> seen)
      : from_(from), seen_(std::move(seen)) {}
  Bytes next(Room room) override;

 private:
  Source& from_;
  std::function<void(size_t)> seen_;
};

// Passes on at most `limit` bytes; one more is an error: resource_exhausted, naming `what`.
class LimitedSource : public Source {
 public:
  LimitedSource(Source& from, uint64_t limit, std::string what)
      : from_(from), limit_(limit), what_(std::move(what)) {}
  Bytes next(Room room) override;

 private:
  Source& from_;
  uint64_t limit_;
  uint64_t count_ = 0;
  std::string what_;
};

// Passes bytes on, digests and counts them.
class HashingSink : public Sink {
 public:
  explicit HashingSink(Sink& to) : to_(to) {}
  void write(Bytes bytes) override;
  // Of all that was written; call it once, at the end.
  Digest digest() { return sha_.finish(); }
  uint64_t count() const { return count_; }

 private:
  Sink& to_;
  Sha256 sha_;
  uint64_t count_ = 0;
};

class FdSink : public Sink {
 public:
  explicit FdSink(int fd) : fd_(fd) {}
  void write(Bytes bytes) override { write_all(fd_, bytes); }

 private:
  int fd_;
};

class StringSink : public Sink {
 public:
  void write(Bytes bytes) override {
    text_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// A reader's hold on a source: takes exact amounts without copying what already lies in one piece.
// It owns the room that it lends.
class ChunkReader {
 public:
  explicit ChunkReader(Source& from) : from_(from), room_(kChunkBytes) {}

  // Up to `limit` bytes, at least one unless the stream is at its end. Valid until the next call.
  Bytes take(uint64_t limit);
  // Exactly `out.size()` bytes unless the stream ends before; returns how many.
  size_t read(Room out);
  // Skips up to `size` bytes; returns how many.
  uint64_t skip(uint64_t size);
  // The number of bytes taken, read and skipped so far.
  uint64_t offset() const { return offset_; }

 private:
  bool refill();

  Source& from_;
  std::vector<std::byte> room_;
  Bytes chunk_;
  uint64_t offset_ = 0;
};

// Reads a source to its end and throws the bytes away (they pass digests on the way).
void drain(Source& from);
// Everything, up to `limit` bytes; more is resource_exhausted, naming `what`.
std::string read_all(Source& from, uint64_t limit, std::string_view what);
void copy_all(Source& from, Sink& to);

}  // namespace veneer
