#include "layer/side_by_side.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

namespace veneer {

namespace {

class Workers {
 public:
  Workers(const std::vector<uint64_t>& sizes, const SideBySide& functions)
      : functions_(functions), order_(sizes.size()), is_done_(sizes.size()) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::ranges::sort(order_, [&](size_t a, size_t b) {
      return sizes[a] != sizes[b] ? sizes[a] > sizes[b] : a < b;
    });
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers() { stop_.request_stop(); }  // and the threads' own destructors wait

  // On the caller's thread.
  void run_all(size_t threads) {
    while (threads_.size() < threads) threads_.emplace_back([this] { work(); });
    for (size_t index = 0; index < is_done_.size(); ++index) {
      if (!wait_for(index)) break;
      try {
        functions_.take(index);
      } catch (...) {
        keep_first(std::current_exception());
        break;
      }
    }
    threads_.clear();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  // False if there is an error, of whatever index.
  bool wait_for(size_t index) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_done_[index] || error_; });
    return !error_;
  }

  void work() noexcept {
    while (!stop_.stop_requested()) {
      const std::optional<size_t> index = next();
      if (!index) return;
      try {
        functions_.work(*index, stop_.get_token());
      } catch (...) {
        keep_first(std::current_exception());
        return;
      }
      const std::lock_guard lock(mutex_);
      is_done_[*index] = true;
      changed_.notify_all();
    }
  }

  std::optional<size_t> next() {
    const std::lock_guard lock(mutex_);
    if (next_ == order_.size()) return std::nullopt;
    return order_[next_++];
  }

  void keep_first(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
    stop_.request_stop();  // after it is kept, which nobody may come before who was told to stop
    changed_.notify_all();
  }

  const SideBySide& functions_;
  std::vector<size_t> order_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t next_ = 0;  // in order_
  std::vector<bool> is_done_;
  std::exception_ptr error_;
  std::stop_source stop_;
  std::vector<std::jthread> threads_;  // the last member: they start when all others are there
};

}  // namespace

size_t layers_at_once() {
  return std::max(std::thread::hardware_concurrency(), 2U);
}

void run_side_by_side(const std::vector<uint64_t>& sizes, size_t threads,
                      const SideBySide& functions) {
  Workers(sizes, functions).run_all(std::min(sizes.size(), threads));
}

}  // namespace veneer
