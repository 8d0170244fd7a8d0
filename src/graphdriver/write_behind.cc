#include "graphdriver/write_behind.h"

#include "base/at.h"

namespace veneer {

WriteBehind::WriteBehind(int dir) : dir_(dup_fd(dir)), thread_([this] { run(); }) {}

WriteBehind::~WriteBehind() {
  stop();
}

void WriteBehind::wrote(uint64_t bytes) {
  unsynced_bytes_ += bytes;
  if (unsynced_bytes_ < kStepBytes) return;
  unsynced_bytes_ = 0;
  {
    const std::lock_guard lock(mutex_);
    wanted_ = true;
  }
  changed_.notify_one();
}

void WriteBehind::finish() {
  stop();
  if (error_) std::rethrow_exception(error_);
}

void WriteBehind::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void WriteBehind::run() noexcept {
  try {
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return wanted_ || stopped_; });
        if (!wanted_) return;
        wanted_ = false;
      }
      sync_file_system(dir_.get());
    }
  } catch (...) {
    error_ = std::current_exception();
  }
}

}  // namespace veneer
