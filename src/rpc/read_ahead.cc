#include "rpc/read_ahead.h"

#include <algorithm>
#include <exception>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/limits.h"
#include "layer/side_by_side.h"
#include "rpc/stoppable_source.h"

namespace veneer {

namespace {

// Read and not yet taken: each keeps a directory and some descriptors open, and the names of its
// entries if something below decides about it.
constexpr std::ptrdiff_t kMostRead = 16;
// Known, read or not.
constexpr size_t kMostJobs = 2 * limits::kImageLayers;
// How soon a caller notices that its own client has gone.
constexpr std::chrono::milliseconds kLook(50);

}  // namespace

ReadAhead::ReadAhead(Store& store, Options options) : store_(store), options_(std::move(options)) {}

ReadAhead::~ReadAhead() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_all();
  threads_.clear();
}

// --- for the calls ---------------------------------------------------------------------------

ReadAhead::Turn::Turn(ReadAhead& all, const Digest& blob) : all_(all), blob_(blob) {
  const std::lock_guard lock(all_.mutex_);
  all_.turns_.insert(blob_);
}

ReadAhead::Turn::~Turn() {
  const std::lock_guard lock(all_.mutex_);
  all_.turns_.erase(all_.turns_.find(blob_));
  all_.last_use_ = Clock::now();
  if (!is_reading_) return;
  --all_.reading_;
  all_.changed_.notify_all();
}

std::unique_ptr<OneLayer> ReadAhead::Turn::maybe_take(const std::function<bool()>& is_cancelled) {
  std::unique_lock lock(all_.mutex_);
  for (;;) {
    const auto job = all_.find_job(blob_);
    if (job != all_.jobs_.end() && job->state == State::reading && !is_cancelled()) {
      all_.changed_.wait_for(lock, kLook);
      continue;
    }
    std::unique_ptr<OneLayer> layer;
    if (job != all_.jobs_.end() && job->state != State::reading) {
      layer = std::move(job->read);
      all_.jobs_.erase(job);
      all_.changed_.notify_all();  // another can be read
    }
    is_reading_ = layer == nullptr;
    if (is_reading_) ++all_.reading_;
    return layer;
  }
}

void ReadAhead::begin(const Digest& blob, Find find) {
  const std::lock_guard lock(mutex_);
  try {
    while (threads_.size() < layers_at_once()) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    if (threads_.empty()) return;  // each layer is read when it is asked for
  }
  searches_.push_back({.blob = blob, .find = std::move(find)});
  changed_.notify_all();
}

// --- the threads -----------------------------------------------------------------------------

void ReadAhead::work() {
  std::unique_lock lock(mutex_);
  while (!is_ending_) {
    if (!searches_.empty()) {
      search(lock);
    } else if (const auto job = next_job(); job != jobs_.end()) {
      read(lock, *job);
    } else if (jobs_.empty()) {
      changed_.wait(lock);
    } else if (changed_.wait_for(lock, options_.patience) == std::cv_status::timeout) {
      Jobs forgotten = take_forgotten();
      lock.unlock();
      forgotten.clear();  // removes files
      lock.lock();
    }
  }
}

void ReadAhead::search(std::unique_lock<std::mutex>& lock) {
  const Search search = std::move(searches_.front());
  searches_.pop_front();
  lock.unlock();
  std::vector<AheadLayer> found;
  try {
    found = search.find();
    Meta::Transaction transaction = store_.meta().read();
    std::erase_if(found, [&](const AheadLayer& layer) {
      return transaction.maybe_layer(layer.diff_id).has_value();
    });
  } catch (const std::exception& error) {
    found.clear();
    options_.on_end(search.blob, error.what());
  }
  lock.lock();
  for (const AheadLayer& layer : found) add(layer);
  last_use_ = Clock::now();
  changed_.notify_all();
}

void ReadAhead::add(const AheadLayer& layer) {
  if (turns_.contains(layer.blob) || find_job(layer.blob) != jobs_.end()) return;
  if (jobs_.size() < kMostJobs) jobs_.push_back({.layer = layer, .read = nullptr});
}

void ReadAhead::read(std::unique_lock<std::mutex>& lock, Job& job) {
  job.state = State::reading;
  ++reading_;
  const AheadLayer layer = job.layer;
  lock.unlock();
  std::unique_ptr<OneLayer> read;
  std::string error;
  try {
    read = stage(layer);
  } catch (const std::exception& thrown) {
    error = thrown.what();
  }
  options_.on_end(layer.blob, error);
  lock.lock();
  --reading_;
  if (read) {
    job.read = std::move(read);
    job.state = State::done;
  } else {
    jobs_.erase(find_job(layer.blob));
  }
  last_use_ = Clock::now();
  changed_.notify_all();
}

std::unique_ptr<OneLayer> ReadAhead::stage(const AheadLayer& layer) {
  LayerBlob blob;
  blob.diff_id = layer.diff_id;
  blob.blob_size = layer.size_bytes;
  blob.open = [this, digest = layer.blob] {
    return std::make_unique<StoppableSource>(options_.open(digest),
                                             [this] { return is_ending_.load(); });
  };
  return std::make_unique<OneLayer>(OneLayer::Ahead(), store_, std::move(blob));
}

// What was read for somebody who went away.
ReadAhead::Jobs ReadAhead::take_forgotten() {
  Jobs forgotten;
  if (!turns_.empty() || Clock::now() - last_use_ < options_.patience) return forgotten;
  for (auto job = jobs_.begin(); job != jobs_.end();) {
    const auto next = std::next(job);
    if (job->state != State::reading) forgotten.splice(forgotten.end(), jobs_, job);
    job = next;
  }
  return forgotten;
}

ReadAhead::Jobs::iterator ReadAhead::find_job(const Digest& blob) {
  return std::ranges::find(jobs_, blob, [](const Job& job) { return job.layer.blob; });
}

// Layers that are read at the same time share the processors: no more of them than that pays for.
ReadAhead::Jobs::iterator ReadAhead::next_job() {
  if (reading_ >= layers_at_once()) return jobs_.end();
  const auto read =
      std::ranges::count_if(jobs_, [](const Job& job) { return job.state != State::waiting; });
  if (read >= kMostRead) return jobs_.end();
  return std::ranges::find(jobs_, State::waiting, &Job::state);
}

}  // namespace veneer
