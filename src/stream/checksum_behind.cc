#include "stream/checksum_behind.h"

#include <vector>

#include "stream/checksum.h"
#include "stream/stream.h"

namespace veneer {

Crc64Behind::~Crc64Behind() {
  if (!thread_.joinable()) return;
  close();
  thread_.join();
}

void Crc64Behind::follow_to(uint64_t end) {
  const std::lock_guard lock(mutex_);
  end_ = end;
  changed_.notify_all();
}

void Crc64Behind::close() {
  const std::lock_guard lock(mutex_);
  is_closed_ = true;
  changed_.notify_all();
}

uint64_t Crc64Behind::finish() {
  close();
  thread_.join();
  if (error_) std::rethrow_exception(error_);
  return value_;
}

void Crc64Behind::run() noexcept {
  try {
    std::vector<std::byte> room(kChunkBytes);
    Crc64 crc;
    for (uint64_t done = 0;;) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return done < end_ || is_closed_; });
      const uint64_t end = end_;
      lock.unlock();
      if (done == end) break;
      FileRangeSource part(file_, done, end - done);
      for (Bytes bytes = part.next(room); !bytes.empty(); bytes = part.next(room))
        crc.update(bytes);
      done = end;
    }
    value_ = crc.value();
  } catch (...) {
    error_ = std::current_exception();
  }
}

}  // namespace veneer
