#include "graphdriver/trash_thread.h"

#include <chrono>

#include "base/error.h"

namespace veneer {

namespace {

constexpr std::chrono::milliseconds kPause(100);

}  // namespace

TrashThread::~TrashThread() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void TrashThread::wake() {
  {
    const std::lock_guard lock(mutex_);
    is_wanted_ = true;
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  }
  changed_.notify_one();
}

void TrashThread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return is_wanted_ || is_ending_; });
    if (!is_wanted_) return;
    // Removals come in bursts, and the next ones should not wait for the deletion of the first.
    changed_.wait_for(lock, kPause, [this] { return is_ending_; });
    is_wanted_ = false;
    lock.unlock();
    try {
      empty_trash(layout_);
    } catch (const Error&) {
      // It stays in the trash: nobody waits for this.
    }
    lock.lock();
  }
}

}  // namespace veneer
