#include "stream/prefetch.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "stream/aligned.h"

namespace veneer {

namespace {

bool lies_in(Bytes bytes, Room room) {
  const std::less_equal<const std::byte*> before;  // a total order, which <= on pointers is not
  return before(room.data(), bytes.data()) &&
         before(bytes.data() + bytes.size(), room.data() + room.size());
}

}  // namespace

// Chunks are numbered from 0, and chunk n lies in slot n modulo their number. Those from the first
// that some reader has not gone on from to the last that was made are the readers', who keep what
// they took until they take again; the producer owns the slot after them. So neither side ever
// touches a buffer of the other's, and the mutex guards the numbers only.
class Prefetch::Ring {
 public:
  Ring(Source& from, std::initializer_list<Reader> readers, size_t chunks)
      : from_(from), memory_(make_aligned(chunks * kChunkBytes)), slots_(chunks) {
    VENEER_CHECK(chunks > 0);
    for (const Reader& reader : readers) {
      VENEER_CHECK(reader.chunks_at_once > 0 && reader.chunks_at_once <= chunks);
      places_.emplace_back().at_once = reader.chunks_at_once;
    }
    thread_ = std::thread([this] { run(); });
  }

  ~Ring() {
    {
      const std::lock_guard lock(mutex_);
      is_stopped_ = true;
    }
    has_room_.notify_all();
    thread_.join();
  }

  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  Bytes take(size_t reader) {
    Place& place = places_.at(reader);
    std::unique_lock lock(mutex_);
    place.at += std::exchange(place.lent, 0);
    has_room_.notify_one();
    place.has_chunks.wait(lock, [&] { return is_enough(place); });
    if (abandoned_) std::rethrow_exception(abandoned_);
    if (made_ == place.at) {
      if (error_) std::rethrow_exception(error_);
      return {};
    }
    return lend(place);
  }

  void abandon(std::exception_ptr why) {
    const std::lock_guard lock(mutex_);
    if (error_) return;
    abandoned_ = std::move(why);
    wake_all();
  }

 private:
  struct Place {
    uint64_t at = 0;    // the next chunk to be lent, or the first that is
    uint64_t lent = 0;  // chunks, until the reader takes again
    size_t at_once = 1;
    std::condition_variable has_chunks;
  };

  bool is_enough(const Place& place) const {
    return made_ - place.at >= place.at_once || is_ended_ || abandoned_;
  }

  Bytes lend(Place& place) {
    Bytes bytes = slots_[place.at % slots_.size()];
    place.lent = 1;
    while (place.lent < place.at_once && place.at + place.lent < made_) {
      const Bytes after = slots_[(place.at + place.lent) % slots_.size()];
      if (after.data() != bytes.data() + bytes.size()) break;
      bytes = Bytes(bytes.data(), bytes.size() + after.size());
      ++place.lent;
    }
    return bytes;
  }

  void run() noexcept {
    std::exception_ptr error;
    try {
      fill();
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
    is_ended_ = true;
    wake_all();
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

  // The buffer to fill next, or nothing when the readers have gone.
  std::optional<Room> wait_for_room() {
    std::unique_lock lock(mutex_);
    has_room_.wait(lock, [this] { return has_room() || is_stopped_ || abandoned_; });
    if (is_stopped_ || abandoned_) return {};
    return Room(memory_.get() + made_ % slots_.size() * kChunkBytes, kChunkBytes);
  }

  bool has_room() const {
    return std::ranges::all_of(
        places_, [this](const Place& place) { return made_ - place.at < slots_.size(); });
  }

  void publish(Bytes bytes) {
    const std::lock_guard lock(mutex_);
    slots_[made_ % slots_.size()] = bytes;
    ++made_;
    for (Place& place : places_)
      if (is_enough(place)) place.has_chunks.notify_one();
  }

  void wake_all() {
    for (Place& place : places_) place.has_chunks.notify_one();
    has_room_.notify_all();
  }

  Source& from_;
  const AlignedBytes memory_;
  std::mutex mutex_;
  std::condition_variable has_room_;
  std::vector<Bytes> slots_;
  uint64_t made_ = 0;         // chunks
  std::deque<Place> places_;  // of the readers
  bool is_stopped_ = false;   // set by the destructor
  bool is_ended_ = false;     // set by the producer as its last act
  std::exception_ptr error_;  // with that
  std::exception_ptr abandoned_;
  std::thread thread_;
};

Prefetch::Prefetch(Source& from, std::initializer_list<Reader> readers, size_t chunks)
    : ring_(std::make_unique<Ring>(from, readers, chunks)) {}

Prefetch::~Prefetch() = default;

Bytes Prefetch::next(size_t reader) {
  return ring_->take(reader);
}

void Prefetch::abandon(std::exception_ptr why) {
  ring_->abandon(std::move(why));
}

PrefetchThread::PrefetchThread(Prefetch& from, size_t reader, std::function<void(Source&)> read)
    : from_(from), reader_(reader), read_(std::move(read)), thread_([this] { run(); }) {}

PrefetchThread::~PrefetchThread() {
  if (!thread_.joinable()) return;
  from_.abandon(std::make_exception_ptr(Error(Code::unavailable, "abandoned")));
  thread_.join();
}

void PrefetchThread::finish() {
  if (thread_.joinable()) thread_.join();
  if (error_) std::rethrow_exception(error_);
}

void PrefetchThread::run() noexcept {
  try {
    PrefetchReader source(from_, reader_);
    read_(source);
  } catch (...) {
    error_ = std::current_exception();
    from_.abandon(error_);
  }
}

}  // namespace veneer
