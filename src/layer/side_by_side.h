// Work on several layers at once, whose results are taken in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <stop_token>
#include <vector>

namespace veneer {

// How many layers to work on at once, which is as many as there are processors, and two at least:
// each keeps more than one busy, and waits for the disk at its end.
size_t layers_at_once();

struct SideBySide {
  // Does the work for one layer, on some thread. Should end soon, by an exception, once it is told
  // to stop.
  std::function<void(size_t index, const std::stop_token& stop)> work;
  // Takes what that made: on the caller's thread, in order, each as soon as it and all before it
  // are there.
  std::function<void(size_t index)> take;
};

// Works on as many layers as there are sizes, on `threads` of them at once. The largest are begun
// first, so that nothing long is left alone at the end. The first exception of either function
// stops all work, and is thrown when no work is going on any more.
void run_side_by_side(const std::vector<uint64_t>& sizes, size_t threads,
                      const SideBySide& functions);

}  // namespace veneer
