#include "stream/prefetch.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace veneer {

namespace {

bool lies_in(Bytes bytes, Room room) {
  const std::less_equal<const std::byte*> before;  // a total order, which <= on pointers is not
  return before(room.data(), bytes.data()) &&
         before(bytes.data() + bytes.size(), room.data() + room.size());
}

}  // namespace

// The slots from first_ on, filled_ of them and cyclic, hold bytes for the consumer, who keeps the
// first of them until the next take(); the producer owns the one after them. So neither side ever
// touches a buffer of the other's, and the mutex guards the numbers only.
class PrefetchSource::Ring {
 public:
  Ring(Source& from, size_t chunks)
      : from_(from),
        memory_(std::make_unique_for_overwrite<std::byte[]>(chunks * kChunkBytes)),
        slots_(chunks),
        thread_([this] { run(); }) {}

  ~Ring() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  Bytes take() {
    std::unique_lock lock(mutex_);
    if (std::exchange(lent_, false)) {
      first_ = (first_ + 1) % slots_.size();
      --filled_;
      changed_.notify_all();
    }
    changed_.wait(lock, [this] { return filled_ > 0 || ended_; });
    if (filled_ > 0) {
      lent_ = true;
      return slots_[first_];
    }
    if (error_) std::rethrow_exception(error_);
    return {};
  }

 private:
  void run() noexcept {
    std::exception_ptr error;
    try {
      fill();
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
    ended_ = true;
    changed_.notify_all();
  }

  void fill() {
    for (std::optional<Room> room = wait_for_room(); room; room = wait_for_room()) {
      Bytes bytes = from_.next(*room);
      if (bytes.empty()) return;
      if (lies_in(bytes, *room)) {
        publish(bytes);
        continue;
      }
      while (room && !bytes.empty()) {
        const Bytes piece = bytes.first(std::min(bytes.size(), room->size()));
        std::memcpy(room->data(), piece.data(), piece.size());
        publish(room->first(piece.size()));
        bytes = bytes.subspan(piece.size());
        if (!bytes.empty()) room = wait_for_room();
      }
    }
  }

  // The buffer to fill next, or nothing when the consumer has gone.
  std::optional<Room> wait_for_room() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return filled_ < slots_.size() || stopped_; });
    if (stopped_) return {};
    return Room(memory_.get() + next_slot() * kChunkBytes, kChunkBytes);
  }

  void publish(Bytes bytes) {
    const std::lock_guard lock(mutex_);
    slots_[next_slot()] = bytes;
    ++filled_;
    changed_.notify_all();
  }

  size_t next_slot() const { return (first_ + filled_) % slots_.size(); }

  Source& from_;
  const std::unique_ptr<std::byte[]> memory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Bytes> slots_;
  size_t first_ = 0;
  size_t filled_ = 0;
  bool lent_ = false;     // the consumer still reads the first slot
  bool stopped_ = false;  // set by the consumer
  bool ended_ = false;    // set by the producer as its last act
  std::exception_ptr error_;
  std::thread thread_;  // the last member: it starts when all others are there
};

PrefetchSource::PrefetchSource(Source& from, size_t chunks) {
  VENEER_CHECK(chunks > 0);
  ring_ = std::make_unique<Ring>(from, chunks);
}

PrefetchSource::~PrefetchSource() = default;

Bytes PrefetchSource::next(Room) {
  return ring_->take();
}

}  // namespace veneer
