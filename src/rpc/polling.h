// The threads of a completion queue: one waits for events and handles them itself, as handing a
// call over to another costs more than most calls take. A handler that takes longer than some
// milliseconds loses the queue to a stand-in, which has another one behind it, and so on.
//
// The stand-in waits for a timer. The first one sets it when it begins an event, and leaves it
// alone as long as it is set: the stand-in looks, when the timer has run out, whether there is an
// event that takes so long, and sets it again for one that may. So events cost no system call each,
// and an idle queue wakes nobody.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace grpc {
class CompletionQueue;
}

namespace veneer {

// What the queue's tags are.
class QueueEvent {
 public:
  virtual ~QueueEvent() = default;
  // May take any time, and does not throw.
  virtual void run(bool is_ok) = 0;
};

class Polling {
 public:
  // Handles the events of `queue`, which outlives this.
  explicit Polling(grpc::CompletionQueue& queue);
  Polling(const Polling&) = delete;
  Polling& operator=(const Polling&) = delete;
  // The queue has been shut down: waits until it is empty and all events are handled.
  ~Polling();

 private:
  void add_thread();
  void run();
  bool wait_for_turn(uint64_t& turn);
  void lead(uint64_t turn);
  bool begin_event(uint64_t turn);
  bool end_event(uint64_t turn);
  bool is_due();

  grpc::CompletionQueue& queue_;
  UniqueFd timer_;
  std::mutex stand_in_;           // held by the one that waits for the timer
  std::atomic<int> waiting_ = 0;  // to stand in
  std::mutex mutex_;              // over what follows
  uint64_t turn_ = 0;             // whose the queue is
  bool is_timer_set_ = false;
  // When the one whose turn it is began the event that it handles, if it does. The first turn is
  // due at once.
  std::optional<std::chrono::steady_clock::time_point> began_ =
      std::chrono::steady_clock::time_point();
  bool is_ended_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace veneer
