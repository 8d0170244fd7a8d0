// What the daemon counts, for Prometheus: calls, how long they took, and what was imported.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "rpc/apply_layer.h"

namespace veneer {

class Store;

// Upper bounds of the buckets that the time of a call falls into, in seconds; one more has no
// bound. The first ones tell whether Remove and Commit keep to their 10 ms, the last ones how long
// Apply takes.
inline constexpr std::array kCallBuckets = {.001, .002, .005, .01, .02, .05, .1,  .2,
                                            .5,   1.,   2.,   5.,  10., 30., 60., 300.};

// For any thread.
class Metrics {
 public:
  // A call has ended. `code` is gRPC's word for how: "OK", "NOT_FOUND", ...
  void add_call(std::string_view call, std::string_view code, double seconds);
  // A layer was made a snapshot's content by a call that took so long.
  void add_import(const AppliedLayer& layer, double seconds);

  // As Prometheus has them (text exposition format 0.0.4): these, and what the store has now.
  std::string text(Store& store) const;
  std::string text() const;

 private:
  struct Calls {
    std::map<std::string, uint64_t, std::less<>> by_code;
    std::array<uint64_t, kCallBuckets.size() + 1> buckets{};
    double seconds = 0;
  };
  struct Imports {
    uint64_t layers = 0;
    uint64_t size_bytes = 0;
    double seconds = 0;
  };

  mutable std::mutex mutex_;
  std::map<std::string, Calls, std::less<>> calls_;
  Imports read_;
  Imports found_;
  Import::Times stages_;
};

}  // namespace veneer
