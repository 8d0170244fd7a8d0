// Lines on a terminal that say how far a load is: one for each layer that is being read.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "store/import.h"

namespace veneer {

// The lines are written at most ten times a second, never wider than the terminal nor more than it
// has, and are gone after clear() and with the object. When no layer is being read, the last one
// that was stays. Without a terminal at `fd` (borrowed) all of it does nothing.
class Progress final : public ImportProgress {
 public:
  using Clock = std::chrono::steady_clock;
  struct Layer {
    std::string digest;  // hex
    uint64_t size_bytes = 0;
  };

  Progress(int fd, std::vector<Layer> layers, std::function<Clock::time_point()> now = Clock::now);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() override;

  void begin(size_t layer) override;
  void add(size_t layer, uint64_t blob_bytes) override;
  void exists(size_t layer) override;
  void done(size_t layer) override;
  void clear();

 private:
  enum class Phase { waiting, reading, exists, done };
  struct State {
    Layer layer;
    Phase phase = Phase::waiting;
    uint64_t read_bytes = 0;
    Clock::time_point begun;
  };

  // The caller holds mutex_.
  void enter(size_t layer, Phase phase);
  void draw();
  std::string line(size_t layer) const;
  std::string how_far(const State& state) const;
  void write(std::string_view text);

  std::mutex mutex_;
  int fd_ = -1;
  std::function<Clock::time_point()> now_;
  Clock::time_point drawn_;
  std::vector<State> layers_;
  size_t last_ = 0;   // the layer that was heard of last
  size_t lines_ = 0;  // on the terminal now
};

}  // namespace veneer
