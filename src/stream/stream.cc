#include "stream/stream.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace veneer {

Bytes FdSource::next(Room room) {
  return room.first(read_some(fd_, room));
}

Bytes FileRangeSource::next(Room room) {
  if (left_ == 0) return {};
  const Room wanted = room.first(std::min<uint64_t>(room.size(), left_));
  const size_t size = read_some_at(fd_, wanted, offset_);
  if (size == 0) fail(Code::corrupt, "the file ends at {}, {} bytes too early", offset_, left_);
  offset_ += size;
  left_ -= size;
  return wanted.first(size);
}

Bytes MemorySource::next(Room) {
  const Bytes bytes = left_.first(std::min(piece_, left_.size()));
  left_ = left_.subspan(bytes.size());
  return bytes;
}

Bytes HashingSource::next(Room room) {
  const Bytes bytes = from_.next(room);
  sha_.update(bytes);
  count_ += bytes.size();
  return bytes;
}

void HashingSink::write(Bytes bytes) {
  to_.write(bytes);
  sha_.update(bytes);
  count_ += bytes.size();
}

Bytes CountingSource::next(Room room) {
  const Bytes bytes = from_.next(room);
  if (!bytes.empty()) seen_(bytes.size());
  return bytes;
}

Bytes LimitedSource::next(Room room) {
  const Bytes bytes = from_.next(room);
  if (bytes.size() > limit_ - count_)
    fail(Code::resource_exhausted, "{} has more than {} bytes", what_, limit_);
  count_ += bytes.size();
  return bytes;
}

bool ChunkReader::refill() {
  if (chunk_.empty()) chunk_ = from_.next(room_);
  return !chunk_.empty();
}

Bytes ChunkReader::take(uint64_t limit) {
  if (limit == 0 || !refill()) return {};
  const Bytes bytes = chunk_.first(std::min<uint64_t>(limit, chunk_.size()));
  chunk_ = chunk_.subspan(bytes.size());
  offset_ += bytes.size();
  return bytes;
}

size_t ChunkReader::read(Room out) {
  size_t done = 0;
  while (done < out.size()) {
    const Bytes bytes = take(out.size() - done);
    if (bytes.empty()) break;
    std::memcpy(out.data() + done, bytes.data(), bytes.size());
    done += bytes.size();
  }
  return done;
}

uint64_t ChunkReader::skip(uint64_t size) {
  uint64_t left = size;
  while (left > 0) {
    const Bytes bytes = take(left);
    if (bytes.empty()) break;
    left -= bytes.size();
  }
  return size - left;
}

void drain(Source& from) {
  std::vector<std::byte> room(kChunkBytes);
  while (!from.next(room).empty()) continue;
}

std::string read_all(Source& from, uint64_t limit, std::string_view what) {
  LimitedSource limited(from, limit, std::string(what));
  StringSink sink;
  copy_all(limited, sink);
  return sink.text();
}

void copy_all(Source& from, Sink& to) {
  std::vector<std::byte> room(kChunkBytes);
  for (Bytes bytes = from.next(room); !bytes.empty(); bytes = from.next(room)) to.write(bytes);
}

}  // namespace veneer
