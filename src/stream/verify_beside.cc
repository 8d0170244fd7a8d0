#include "stream/verify_beside.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "stream/verify.h"

namespace veneer {

// A VerifyingSource at the end of a hand-over: the thread reads from it, and it reads here what the
// caller lends. It is done with the one piece when it asks for another.
class VerifyingBesideSource::Verifier final : private Source {
 public:
  Verifier(Digest expected, std::string what, std::optional<uint64_t> expected_size)
      : verified_(*this, expected, std::move(what), expected_size), thread_([this] { run(); }) {}

  ~Verifier() override {
    lend({});  // the end, though not of the stream; what comes of it no one asks
    thread_.join();
  }

  Verifier(const Verifier&) = delete;
  Verifier& operator=(const Verifier&) = delete;

  // Waits until nothing lent is in use.
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_waiting_ || is_done_; });
    if (error_) std::rethrow_exception(error_);
  }

  // Waits until all that was lent has been found to be as expected.
  void wait_for_end() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_done_; });
    if (error_) std::rethrow_exception(error_);
  }

  // Only after wait(). No bytes are the end.
  void lend(Bytes bytes) {
    const std::lock_guard lock(mutex_);
    lent_ = bytes;
    is_waiting_ = false;
    has_lent_ = true;
    changed_.notify_all();
  }

 private:
  Bytes next(Room) override {
    std::unique_lock lock(mutex_);
    is_waiting_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return has_lent_; });
    has_lent_ = false;
    return lent_;
  }

  void run() noexcept {
    std::exception_ptr error;
    try {
      while (!verified_.next({}).empty()) {
      }
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    error_ = std::move(error);
    is_done_ = true;
    changed_.notify_all();
  }

  VerifyingSource verified_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Bytes lent_;
  bool has_lent_ = false;
  bool is_waiting_ = false;
  bool is_done_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // the last member: it starts when all others are there
};

VerifyingBesideSource::VerifyingBesideSource(Source& from, Digest expected, std::string what,
                                             std::optional<uint64_t> expected_size)
    : from_(from),
      verifier_(std::make_unique<Verifier>(expected, std::move(what), expected_size)) {}

VerifyingBesideSource::~VerifyingBesideSource() = default;

Bytes VerifyingBesideSource::next(Room room) {
  verifier_->wait();
  const Bytes bytes = from_.next(room);
  verifier_->lend(bytes);
  if (bytes.empty()) verifier_->wait_for_end();
  return bytes;
}

}  // namespace veneer
