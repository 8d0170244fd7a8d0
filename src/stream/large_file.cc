#include "stream/large_file.h"

#include <fcntl.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

#include "base/at.h"
#include "base/error.h"

namespace veneer {

namespace {

constexpr uint64_t kStartBytes = 8 << 20;
// What O_DIRECT asks of addresses, offsets and sizes: the logical block of the disk at most, of
// which none is larger.
constexpr size_t kAlignment = 4096;
constexpr size_t kBufferBytes = 1 << 20;

static_assert(kBufferBytes % kAlignment == 0);

// False where the file system has no direct writes.
bool set_direct(int file, bool is_direct) {
  const int flags = check(::fcntl(file, F_GETFL), "fcntl");
  const int wanted = is_direct ? flags | O_DIRECT : flags & ~O_DIRECT;
  if (::fcntl(file, F_SETFL, wanted) == 0) return true;
  if (errno != EINVAL) fail_errno(errno, "fcntl");
  return false;
}

}  // namespace

// Buffers go round: the caller fills the one after those that are full, the thread writes these.
class LargeFileSink::DirectWriter {
 public:
  DirectWriter(int file, uint64_t offset)
      : file_(file), offset_(offset), thread_([this] { run(); }) {}

  ~DirectWriter() {
    end();
    if (thread_.joinable()) thread_.join();
  }

  DirectWriter(const DirectWriter&) = delete;
  DirectWriter& operator=(const DirectWriter&) = delete;

  void write(Bytes bytes) {
    while (!bytes.empty()) {
      if (used_ == 0) wait_for_room();
      const size_t size = std::min(bytes.size(), kBufferBytes - used_);
      std::memcpy(buffer(next_) + used_, bytes.data(), size);
      bytes = bytes.subspan(size);
      used_ += size;
      if (used_ == kBufferBytes) hand_over();
    }
  }

  // What is left is no whole buffer, and written as any other file.
  void finish() {
    end();
    thread_.join();
    if (error_) std::rethrow_exception(error_);
    (void)set_direct(file_, false);
    write_all_at(file_, Bytes(buffer(next_), used_), offset_);
  }

 private:
  static constexpr size_t kBuffers = 3;

  struct Unaligned {
    void operator()(std::byte* memory) const {
      ::operator delete[](memory, std::align_val_t(kAlignment));
    }
  };

  std::byte* buffer(size_t at) const { return memory_.get() + at * kBufferBytes; }

  void wait_for_room() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return full_ < kBuffers || error_; });
    if (error_) std::rethrow_exception(error_);
  }

  void hand_over() {
    const std::lock_guard lock(mutex_);
    next_ = (next_ + 1) % kBuffers;
    used_ = 0;
    ++full_;
    changed_.notify_all();
  }

  void end() {
    const std::lock_guard lock(mutex_);
    is_ended_ = true;
    changed_.notify_all();
  }

  void run() noexcept {
    try {
      (void)set_direct(file_, true);  // else it is written as any other file
      for (size_t at = 0; wait_for_full(); at = (at + 1) % kBuffers) {
        write_buffer(Bytes(buffer(at), kBufferBytes));
        const std::lock_guard lock(mutex_);
        --full_;
        changed_.notify_all();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      changed_.notify_all();
    }
  }

  // Some file systems take the flag, and refuse the writes.
  void write_buffer(Bytes bytes) {
    try {
      write_all_at(file_, bytes, offset_);
    } catch (const SysError& error) {
      if (error.error_number() != EINVAL || !set_direct(file_, false)) throw;
      write_all_at(file_, bytes, offset_);
    }
    offset_ += bytes.size();
  }

  bool wait_for_full() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return full_ > 0 || is_ended_; });
    return full_ > 0;
  }

  const int file_;
  uint64_t offset_;  // the thread's, as long as it runs
  const std::unique_ptr<std::byte[], Unaligned> memory_{new (std::align_val_t(kAlignment))
                                                            std::byte[kBuffers * kBufferBytes]};
  size_t next_ = 0;  // the caller's buffer
  size_t used_ = 0;  // of it
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t full_ = 0;
  bool is_ended_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // the last member: it starts when all others are there
};

LargeFileSink::LargeFileSink(int file, uint64_t cached_bytes)
    : file_(file), cached_bytes_(cached_bytes) {
  VENEER_CHECK(cached_bytes % kAlignment == 0);
}

LargeFileSink::~LargeFileSink() = default;

void LargeFileSink::write(Bytes bytes) {
  if (!direct_) {
    const uint64_t room = cached_bytes_ - cached_;
    const Bytes cached = bytes.first(std::min(bytes.size(), static_cast<size_t>(room)));
    write_cached(cached);
    bytes = bytes.subspan(cached.size());
    if (bytes.empty()) return;
    direct_ = std::make_unique<DirectWriter>(file_, cached_);
  }
  direct_->write(bytes);
}

void LargeFileSink::finish() {
  if (direct_) direct_->finish();
}

void LargeFileSink::write_cached(Bytes bytes) {
  write_all_at(file_, bytes, cached_);
  cached_ += bytes.size();
  if (cached_ - started_ < kStartBytes) return;
  start_sync(file_, started_, cached_ - started_);
  started_ = cached_;
}

}  // namespace veneer
