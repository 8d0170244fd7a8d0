#include "stream/large_file.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "base/at.h"
#include "base/error.h"
#include "stream/aligned.h"

namespace veneer {

namespace {

constexpr uint64_t kStartBytes = 8 << 20;
constexpr size_t kBufferBytes = 1 << 20;

static_assert(kBufferBytes % kDirectAlignment == 0);

// False where the file system has no direct writes.
bool set_direct(int file, bool is_direct) {
  const int flags = check(::fcntl(file, F_GETFL), "fcntl");
  const int wanted = is_direct ? flags | O_DIRECT : flags & ~O_DIRECT;
  if (::fcntl(file, F_SETFL, wanted) == 0) return true;
  if (errno != EINVAL) fail_errno(errno, "fcntl");
  return false;
}

class CachedPart {
 public:
  explicit CachedPart(int file) : file_(file) {}
  void write(Bytes bytes) {
    write_all_at(file_, bytes, size_);
    size_ += bytes.size();
    if (size_ - started_ < kStartBytes) return;
    start_sync(file_, started_, size_ - started_);
    started_ = size_;
  }
  uint64_t size() const { return size_; }

 private:
  int file_;
  uint64_t size_ = 0;
  uint64_t started_ = 0;  // of that, what the kernel was told to write out
};

// The rest of the file, from an offset that is aligned.
class DirectPart {
 public:
  DirectPart(int file, uint64_t offset) : file_(file), offset_(offset) {
    (void)set_direct(file, true);  // else it is written as any other file
  }

  void write(Bytes bytes) {
    if (used_ == 0 && reinterpret_cast<uintptr_t>(bytes.data()) % kDirectAlignment == 0) {
      const size_t whole = bytes.size() - bytes.size() % kDirectAlignment;
      write_aligned(bytes.first(whole));
      bytes = bytes.subspan(whole);
    }
    while (!bytes.empty()) {
      if (!buffer_) buffer_ = make_aligned(kBufferBytes);
      const size_t size = std::min(bytes.size(), kBufferBytes - used_);
      std::memcpy(buffer_.get() + used_, bytes.data(), size);
      bytes = bytes.subspan(size);
      used_ += size;
      if (used_ < kBufferBytes) return;
      write_aligned(Bytes(buffer_.get(), used_));
      used_ = 0;
    }
  }

  // What is left is no whole block, and written as any other file.
  void finish() {
    (void)set_direct(file_, false);
    write_all_at(file_, Bytes(buffer_.get(), used_), offset_);
  }

 private:
  // Some file systems take the flag, and refuse the writes.
  void write_aligned(Bytes bytes) {
    try {
      write_all_at(file_, bytes, offset_);
    } catch (const SysError& error) {
      if (error.error_number() != EINVAL || !set_direct(file_, false)) throw;
      write_all_at(file_, bytes, offset_);
    }
    offset_ += bytes.size();
  }

  int file_;
  uint64_t offset_;
  AlignedBytes buffer_;  // for what is not aligned
  size_t used_ = 0;      // of it
};

}  // namespace

void write_large_file(Source& from, int file, uint64_t cached_bytes) {
  VENEER_CHECK(cached_bytes % kDirectAlignment == 0);
  std::vector<std::byte> room(kChunkBytes);
  CachedPart cached(file);
  std::optional<DirectPart> direct;
  for (Bytes bytes = from.next(room); !bytes.empty(); bytes = from.next(room)) {
    const uint64_t left = cached_bytes - cached.size();
    if (left > 0) cached.write(bytes.first(std::min<uint64_t>(left, bytes.size())));
    if (left >= bytes.size()) continue;
    if (!direct) direct.emplace(file, cached_bytes);
    direct->write(bytes.subspan(static_cast<size_t>(left)));
  }
  if (direct) direct->finish();
}

}  // namespace veneer
