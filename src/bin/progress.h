// One line on a terminal that says how far a load is.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace veneer {

// All calls may come from any thread. The line is written at most ten times a second, never wider
// than the terminal, and is gone after clear() and with the object. Without a terminal at `fd`
// (borrowed) all of it does nothing.
class Progress {
 public:
  using Clock = std::chrono::steady_clock;
  struct Layer {
    size_t number = 0;  // from 1
    size_t count = 0;
    std::string digest;  // hex
    uint64_t size_bytes = 0;
  };

  // Shows nothing at all.
  Progress() = default;
  explicit Progress(int fd, std::function<Clock::time_point()> now = Clock::now);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  void begin(Layer layer);
  void add(uint64_t bytes);
  // The layer needs no bytes: it is there already.
  void exists(Layer layer);
  void clear();

 private:
  // The caller holds mutex_.
  void draw(std::string_view state);
  std::string how_far() const;
  void write(std::string_view text);

  std::mutex mutex_;
  int fd_ = -1;
  std::function<Clock::time_point()> now_;
  Clock::time_point begun_;
  Clock::time_point drawn_;
  Layer layer_;
  uint64_t done_ = 0;
  bool visible_ = false;
};

}  // namespace veneer
