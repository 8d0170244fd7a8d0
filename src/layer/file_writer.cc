#include "layer/file_writer.h"

#include <sys/stat.h>

#include <array>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/at.h"
#include "base/error.h"

namespace veneer {

namespace {

constexpr size_t kThreads = 2;
constexpr size_t kBatches = 12;  // some wait while the caller is busy with other things
constexpr size_t kFilesPerBatch = 64;
constexpr size_t kDirsPerBatch = 16;  // each keeps one open

struct Job {
  std::shared_ptr<const UniqueFd> dir;
  RelPath name;  // keeps its memory from file to file, as entry_path does
  FileAttributes attributes;
  std::string entry_path;
  uint64_t header_offset = 0;
  Bytes body;
};

void write_job(Job& job) {
  const std::shared_ptr<const UniqueFd> dir = std::move(job.dir);
  try {
    const UniqueFd fd = open_at(dir->get(), job.name, O_WRONLY | O_CREAT | O_EXCL | O_NOCTTY,
                                job.attributes.mode & 0777);
    if (!job.body.empty()) write_all(fd.get(), job.body);
    set_file_attributes(fd.get(), job.attributes);
  } catch (Error& error) {
    error.add_context(fmt::format("entry \"{}\" at offset {}", job.entry_path, job.header_offset));
    throw;
  }
}

class Batch {
 public:
  bool has_room(size_t size) const {
    return count_ < jobs_.size() && dirs_ < kDirsPerBatch && size <= kChunkBytes - used_;
  }

  Room add(FileWriter::File file, size_t size) {
    const Room room(memory_.get() + used_, size);
    used_ += size;
    if (count_ == 0 || jobs_[count_ - 1].dir != file.dir) ++dirs_;
    Job& job = jobs_[count_++];
    job.dir = std::move(file.dir);
    job.name.assign_part(file.name.c_str());
    job.attributes = file.attributes;
    job.entry_path = file.entry_path;
    job.header_offset = file.header_offset;
    job.body = room;
    return room;
  }

  void write() {
    for (size_t i = 0; i < count_; ++i) write_job(jobs_[i]);
    count_ = 0;
    dirs_ = 0;
    used_ = 0;
  }

 private:
  std::array<Job, kFilesPerBatch> jobs_;
  size_t count_ = 0;
  size_t dirs_ = 0;  // at most so many different ones
  std::unique_ptr<std::byte[]> memory_ = std::make_unique_for_overwrite<std::byte[]>(kChunkBytes);
  size_t used_ = 0;
};

}  // namespace

void set_file_attributes(int fd, const FileAttributes& attributes) {
  set_owner_and_mode_fd(fd, attributes.uid, attributes.gid, attributes.mode);
  set_times_fd(fd, attributes.modified, attributes.modified);
}

// A batch is the caller's, waits for a thread, is a thread's, or waits for the caller. So nobody
// touches one of somebody else's, and the mutex guards the lists only.
class FileWriter::Batches {
 public:
  Batches() {
    for (Batch& batch : batches_) free_.push_back(&batch);
    try {
      while (threads_.size() < kThreads) threads_.emplace_back([this] { run(); });
    } catch (...) {
      stop();  // for those that there are: the destructor does not run
      throw;
    }
  }

  ~Batches() { stop(); }

  Batches(const Batches&) = delete;
  Batches& operator=(const Batches&) = delete;

  // Makes room in the batch to fill, which is the caller's.
  Batch& open(size_t size) {
    if (open_ && !open_->has_room(size)) hand_over();
    if (!open_) open_ = take_free();
    return *open_;
  }

  void finish() {
    if (open_) hand_over();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return free_.size() == kBatches || error_; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }

  void hand_over() {
    const std::lock_guard lock(mutex_);
    full_.push_back(std::exchange(open_, nullptr));
    changed_.notify_all();
  }

  Batch* take_free() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !free_.empty() || error_; });
    if (error_) std::rethrow_exception(error_);
    Batch* const batch = free_.back();
    free_.pop_back();
    return batch;
  }

  void run() noexcept {
    try {
      while (Batch* const batch = take_full()) {
        batch->write();
        give_back(batch);
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      stopped_ = true;
      changed_.notify_all();
    }
  }

  // Nothing when the caller has gone, or a thread has failed.
  Batch* take_full() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !full_.empty() || stopped_; });
    if (stopped_) return nullptr;
    Batch* const batch = full_.front();
    full_.pop_front();
    return batch;
  }

  void give_back(Batch* batch) {
    const std::lock_guard lock(mutex_);
    free_.push_back(batch);
    changed_.notify_all();
  }

  std::array<Batch, kBatches> batches_;
  Batch* open_ = nullptr;  // of the caller
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch*> full_;
  std::vector<Batch*> free_;
  bool stopped_ = false;
  std::exception_ptr error_;
  std::vector<std::jthread> threads_;  // the last member: they start when all others are there
};

FileWriter::FileWriter() : batches_(std::make_unique<Batches>()) {}

FileWriter::~FileWriter() = default;

Room FileWriter::add(File file, size_t size) {
  VENEER_CHECK(size <= kLargestBody);
  return batches_->open(size).add(std::move(file), size);
}

void FileWriter::finish() {
  batches_->finish();
}

}  // namespace veneer
