#include "layer/file_writer.h"

#include <sys/stat.h>

#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/at.h"
#include "base/error.h"

namespace veneer {

namespace {

constexpr size_t kBatches = 3;
constexpr size_t kFilesPerBatch = 32;

struct Job {
  UniqueFd fd;
  FileAttributes attributes;
  std::string entry_path;  // keeps its memory from file to file
  uint64_t header_offset = 0;
  Bytes body;
};

void write_job(Job& job) {
  const UniqueFd fd = std::move(job.fd);
  try {
    if (!job.body.empty()) write_all(fd.get(), job.body);
    set_file_attributes(fd.get(), job.attributes);
  } catch (Error& error) {
    error.add_context(fmt::format("entry \"{}\" at offset {}", job.entry_path, job.header_offset));
    throw;
  }
}

class Batch {
 public:
  bool has_room(size_t size) const { return count_ < jobs_.size() && size <= kChunkBytes - used_; }

  Room add(FileWriter::File file, size_t size) {
    const Room room(memory_.get() + used_, size);
    used_ += size;
    Job& job = jobs_[count_++];
    job.fd = std::move(file.fd);
    job.attributes = file.attributes;
    job.entry_path = file.entry_path;
    job.header_offset = file.header_offset;
    job.body = room;
    return room;
  }

  void write() {
    for (size_t i = 0; i < count_; ++i) write_job(jobs_[i]);
    count_ = 0;
    used_ = 0;
  }

 private:
  std::array<Job, kFilesPerBatch> jobs_;
  size_t count_ = 0;
  std::unique_ptr<std::byte[]> memory_ = std::make_unique_for_overwrite<std::byte[]>(kChunkBytes);
  size_t used_ = 0;
};

}  // namespace

void set_file_attributes(int fd, const FileAttributes& attributes) {
  const struct stat st = stat_fd(fd);
  // In the order that loses nothing: chown clears set-id bits.
  if (st.st_uid != attributes.uid || st.st_gid != attributes.gid)
    chown_fd(fd, attributes.uid, attributes.gid);
  if ((st.st_mode & 07777) != attributes.mode) chmod_fd(fd, attributes.mode);
  set_times_fd(fd, attributes.modified, attributes.modified);
}

// The batches from first_ on, full_ of them and cyclic, are the thread's; the one after them is the
// caller's. So neither ever touches a batch of the other's, and the mutex guards the numbers only.
class FileWriter::Batches {
 public:
  Batches() : thread_([this] { run(); }) {}

  ~Batches() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  Batches(const Batches&) = delete;
  Batches& operator=(const Batches&) = delete;

  // The batch to fill.
  Batch& open() { return batches_[open_]; }

  // Gives the open batch to the thread, and waits until no more than `most_full` are with it.
  void hand_over(size_t most_full) {
    std::unique_lock lock(mutex_);
    ++full_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return full_ <= most_full || error_; });
    if (error_) std::rethrow_exception(error_);
    open_ = (first_ + full_) % kBatches;
  }

 private:
  void run() noexcept {
    try {
      while (Batch* batch = wait_for_batch()) {
        batch->write();
        give_back();
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      changed_.notify_all();
    }
  }

  // Nothing when the caller has gone.
  Batch* wait_for_batch() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return full_ > 0 || stopped_; });
    return stopped_ ? nullptr : &batches_[first_];
  }

  void give_back() {
    const std::lock_guard lock(mutex_);
    first_ = (first_ + 1) % kBatches;
    --full_;
    changed_.notify_all();
  }

  std::array<Batch, kBatches> batches_;
  size_t open_ = 0;  // of the caller
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t first_ = 0;
  size_t full_ = 0;
  bool stopped_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // the last member: it starts when all others are there
};

FileWriter::FileWriter() : batches_(std::make_unique<Batches>()) {}

FileWriter::~FileWriter() = default;

Room FileWriter::add(File file, size_t size) {
  VENEER_CHECK(size <= kLargestBody);
  if (!batches_->open().has_room(size)) batches_->hand_over(kBatches - 1);
  return batches_->open().add(std::move(file), size);
}

void FileWriter::finish() {
  batches_->hand_over(0);
}

}  // namespace veneer
