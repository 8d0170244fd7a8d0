// Write-back that keeps up with a writer, so that the sync before a commit finds little to do.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

#include "base/fd.h"

namespace veneer {

// Syncs the file system of a directory on a thread of its own, when another kStepBytes were written
// there: as often as it gets round to it, never two at once.
class WriteBehind {
 public:
  static constexpr uint64_t kStepBytes = 128 * 1024 * 1024;

  explicit WriteBehind(int dir);
  WriteBehind(const WriteBehind&) = delete;
  WriteBehind& operator=(const WriteBehind&) = delete;
  // Stops; waits for the syncs that are due.
  ~WriteBehind();

  // For the writer: so many more bytes were written. Never waits for the disk.
  void wrote(uint64_t bytes);
  // Stops, and throws what a sync failed with: the kernel reports a failed write-back once. What
  // was written is not durable yet: sync_file_system() is still to be called.
  void finish();

 private:
  void run() noexcept;
  void stop();

  UniqueFd dir_;
  uint64_t unsynced_bytes_ = 0;  // of the writer's thread
  std::mutex mutex_;
  std::condition_variable changed_;
  bool wanted_ = false;
  bool stopped_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // the last member: it starts when all others are there
};

}  // namespace veneer
