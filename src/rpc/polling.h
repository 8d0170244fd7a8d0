// The threads of a completion queue: one waits for events and handles them itself, as handing a
// call over to another costs more than most calls take. A handler that takes longer than some
// milliseconds loses the queue to a stand-in, which has another one behind it, and so on.
//
// The stand-in waits for a timer that the first one sets before each event and stops after it: two
// short system calls, where waking a thread for each event would have both contend for it.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
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

  grpc::CompletionQueue& queue_;
  UniqueFd timer_;
  std::mutex stand_in_;           // held by the one that waits for the timer
  std::atomic<int> waiting_ = 0;  // to stand in
  std::mutex mutex_;              // over what follows
  uint64_t turn_ = 0;             // whose the queue is
  bool is_ended_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace veneer
