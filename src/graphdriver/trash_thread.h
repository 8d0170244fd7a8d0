// Deletes what was removed from a store on a thread of its own.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "store/layout.h"

namespace veneer {

class TrashThread {
 public:
  explicit TrashThread(const Layout& layout) : layout_(layout) {}
  TrashThread(const TrashThread&) = delete;
  TrashThread& operator=(const TrashThread&) = delete;
  // Waits until all is deleted that wake() was called for.
  ~TrashThread();

  // Returns at once; the deletion begins a moment later. The first call makes the thread. What
  // cannot be deleted stays, for the next time or for empty_trash() to complain of.
  void wake();

 private:
  void run();

  const Layout& layout_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_wanted_ = false;
  bool is_ending_ = false;
  std::thread thread_;
};

}  // namespace veneer
