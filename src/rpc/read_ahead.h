// Layers that are read before they are asked for.
//
// containerd (but for its parallel unpacking, 2.2) applies an image's layers one after the other,
// and each is bound by the one thread that decompresses it. What an image has above the layer that
// is being applied is read, verified, packed and synced meanwhile, beside one another, as far as
// nothing below decides about it; when its turn comes it only takes its place. Nothing of it is
// visible before, and a crash leaves what that of an import does.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "store/one_layer.h"
#include "store/store.h"
#include "stream/stream.h"

namespace veneer {

struct AheadLayer {
  Digest blob;
  uint64_t size_bytes = 0;  // of the blob
  Digest diff_id;           // verified; the blob's own digest is not, as this says more
  bool operator==(const AheadLayer&) const = default;
};

// For any thread.
class ReadAhead {
 public:
  using Find = std::function<std::vector<AheadLayer>()>;
  struct Options {
    // not_found for a blob that has not come yet.
    std::function<std::unique_ptr<Source>(const Digest& blob)> open;
    // Told when a layer was read, or with an error what could not be (whoever asks for it reads it
    // himself, and has the error); also of a search that failed. Called by any thread.
    std::function<void(const Digest& blob, std::string_view error)> on_end;
    // How long what was read waits for its turn after the last one.
    std::chrono::milliseconds patience = std::chrono::minutes(5);
  };
  // The store outlives it.
  ReadAhead(Store& store, Options options);
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;
  ~ReadAhead();  // stops the reading, waits for it, and discards what nobody took

  // A blob whose turn it is: from here on it is not read ahead any more.
  class Turn {
   public:
    Turn(ReadAhead& all, const Digest& blob);
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn();
    // The layer, once; waits for one that is being read, until `is_cancelled`, which is asked now
    // and then. Nothing if it was not read, or not well: the caller reads it, during this turn.
    std::unique_ptr<OneLayer> maybe_take(const std::function<bool()>& is_cancelled);
    // What comes after it is read meanwhile, see below.
    void begin(Find find) { all_.begin(blob_, std::move(find)); }

   private:
    ReadAhead& all_;
    Digest blob_;
    bool is_reading_ = false;
  };

  // Has `find` called on another thread, and what it returns read, in that order, unless the store
  // has it. It may throw. `blob` is what it was searched for, in words to others.
  void begin(const Digest& blob, Find find);

 private:
  using Clock = std::chrono::steady_clock;
  enum class State { waiting, reading, done };
  struct Job {
    AheadLayer layer;
    State state = State::waiting;
    std::unique_ptr<OneLayer> read;
  };
  struct Search {
    Digest blob;
    Find find;
  };
  using Jobs = std::list<Job>;

  void work();
  void search(std::unique_lock<std::mutex>& lock);
  void add(const AheadLayer& layer);
  void read(std::unique_lock<std::mutex>& lock, Job& job);
  std::unique_ptr<OneLayer> stage(const AheadLayer& layer);
  Jobs take_forgotten();
  Jobs::iterator find_job(const Digest& blob);
  Jobs::iterator next_job();

  Store& store_;
  const Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Jobs jobs_;  // in order
  std::list<Search> searches_;
  std::multiset<Digest> turns_;
  size_t reading_ = 0;  // layers, here and by those whose turn it is
  Clock::time_point last_use_;
  std::atomic<bool> is_ending_ = false;
  std::vector<std::jthread> threads_;  // the last member: they start when all others are there
};

}  // namespace veneer
