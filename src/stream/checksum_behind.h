// The checksum of a file that somebody else reads, one step behind them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

namespace veneer {

// Sums a file (borrowed) on a thread of its own, from its start to where it is told that others
// have read: so the bytes come from the page cache, and the others do not wait.
class Crc64Behind {
 public:
  explicit Crc64Behind(int file) : file_(file), thread_([this] { run(); }) {}
  ~Crc64Behind();
  Crc64Behind(const Crc64Behind&) = delete;
  Crc64Behind& operator=(const Crc64Behind&) = delete;

  // Others have read up to `end`, which is no less than before.
  void follow_to(uint64_t end);
  // Waits for the CRC-64 of the file up to the last `end`. To be called once, as the last call.
  // Throws what reading does; corrupt if the file ends before.
  uint64_t finish();

 private:
  void run() noexcept;
  void close();

  const int file_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t end_ = 0;
  bool is_closed_ = false;
  uint64_t value_ = 0;  // the thread's, as long as it runs
  std::exception_ptr error_;
  std::thread thread_;  // the last member: it starts when all others are there
};

}  // namespace veneer
