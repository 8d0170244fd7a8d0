#include "rpc/polling.h"

#include <grpcpp/completion_queue.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <system_error>

#include "base/error.h"

namespace veneer {

namespace {

// Most calls are over in a fraction of this, and nobody notices that others waited for so long.
constexpr std::chrono::nanoseconds kQuietPatience = std::chrono::milliseconds(2);
constexpr std::chrono::nanoseconds kAtOnce{1};  // none would stop the timer
// Events that are handled at one time; others wait then.
constexpr size_t kThreads = 512;

// Below a second.
void set_timer(int timer, std::chrono::nanoseconds from_now) {
  const itimerspec when{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = from_now.count()}};
  check(::timerfd_settime(timer, 0, &when, nullptr), "timerfd_settime");
}

void wait_for_timer(int timer) {
  uint64_t count = 0;
  while (::read(timer, &count, sizeof(count)) < 0)
    if (errno != EINTR) fail_errno(errno, "read of a timer");
}

}  // namespace

Polling::Polling(grpc::CompletionQueue& queue)
    : queue_(queue), timer_(check(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd")) {
  add_thread();
  set_timer(timer_.get(), kAtOnce);
}

// No thread is added any more once the queue is empty.
Polling::~Polling() {
  for (;;) {
    std::vector<std::thread> threads;
    {
      const std::lock_guard lock(mutex_);
      threads.swap(threads_);
    }
    if (threads.empty()) return;
    for (std::thread& thread : threads) thread.join();
  }
}

void Polling::add_thread() {
  const std::lock_guard lock(mutex_);
  if (is_ended_ || threads_.size() >= kThreads) return;
  try {
    threads_.emplace_back([this] { run(); });
  } catch (const std::system_error&) {
    // There is no stand-in until a handler has come to its end.
  }
}

void Polling::run() {
  uint64_t turn = 0;
  while (wait_for_turn(turn)) {
    if (waiting_ == 0) add_thread();
    lead(turn);
  }
}

// False at the end.
bool Polling::wait_for_turn(uint64_t& turn) {
  ++waiting_;
  const std::lock_guard stand_in(stand_in_);
  for (;;) {
    wait_for_timer(timer_.get());
    const std::lock_guard lock(mutex_);
    is_timer_set_ = false;
    if (!is_ended_ && !is_due()) continue;
    --waiting_;
    if (is_ended_) set_timer(timer_.get(), kAtOnce);  // for the next
    turn = ++turn_;
    began_.reset();
    return !is_ended_;
  }
}

// Whether an event has taken so long that its handler loses the queue. One that has not yet is
// waited for. The caller has the mutex.
bool Polling::is_due() {
  if (!began_) return false;
  const auto left = *began_ + kQuietPatience - std::chrono::steady_clock::now();
  if (left <= left.zero()) return true;
  set_timer(timer_.get(), left);
  is_timer_set_ = true;
  return false;
}

void Polling::lead(uint64_t turn) {
  void* tag = nullptr;
  bool is_ok = false;
  while (queue_.Next(&tag, &is_ok)) {
    const bool is_mine = begin_event(turn);
    static_cast<QueueEvent*>(tag)->run(is_ok);
    if (!end_event(turn) || !is_mine) return;
  }
  const std::lock_guard lock(mutex_);
  is_ended_ = true;
  set_timer(timer_.get(), kAtOnce);
}

// Both are false for one whose turn is over. What follows is another's then.
bool Polling::begin_event(uint64_t turn) {
  const std::lock_guard lock(mutex_);
  if (turn != turn_) return false;
  began_ = std::chrono::steady_clock::now();
  if (!is_timer_set_) set_timer(timer_.get(), kQuietPatience);
  is_timer_set_ = true;
  return true;
}

bool Polling::end_event(uint64_t turn) {
  const std::lock_guard lock(mutex_);
  if (turn != turn_) return false;
  began_.reset();
  return true;
}

}  // namespace veneer
