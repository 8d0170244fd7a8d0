#include "stream/large_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <random>
#include <string>

#include "base/at.h"
#include "base/error.h"
#include "base/failpoint.h"

namespace veneer {
namespace {

std::string random_text(size_t size) {
  std::minstd_rand random(static_cast<unsigned>(size));
  std::string text(size, '\0');
  std::ranges::generate(text, [&] { return static_cast<char>(random()); });
  return text;
}

UniqueFd new_file() {
  UniqueFd directory = open_root(testing::TempDir());
  return open_at(directory.get(), ".", O_TMPFILE | O_RDWR, 0600);
}

// In pieces that keep to no boundary; or in whole chunks of memory that is aligned.
class Pieces : public Source {
 public:
  Pieces(std::string_view text, bool is_aligned) : left_(text), is_aligned_(is_aligned) {}
  Bytes next(Room) override {
    piece_ = is_aligned_ ? kChunkBytes : piece_ * 3 % 777'777 + 1;
    const std::string_view part = left_.substr(0, piece_);
    left_.remove_prefix(part.size());
    if (!is_aligned_) return std::as_bytes(std::span(part));
    std::ranges::copy(std::as_bytes(std::span(part)), memory_);
    return Bytes(memory_, part.size());
  }

 private:
  std::string_view left_;
  bool is_aligned_;
  size_t piece_ = 1;
  alignas(4096) std::byte memory_[kChunkBytes];
};

std::string read_whole(int file) {
  std::string text(static_cast<size_t>(stat_fd(file).st_size), '\0');
  size_t at = 0;
  while (at < text.size())
    at += read_some_at(file, std::as_writable_bytes(std::span(text)).subspan(at), at);
  return text;
}

constexpr size_t kCached = 1 << 20;

TEST(LargeFile, HasEveryByteOnBothSidesOfTheCachedPart) {
  for (const size_t size : {size_t{0}, size_t{1}, kCached - 1, kCached, kCached + 1, kCached + 4096,
                            kCached + (8 << 20), kCached + (9 << 20) + 17}) {
    const std::string text = random_text(size);
    for (const bool is_aligned : {false, true}) {
      const UniqueFd file = new_file();
      Pieces pieces(text, is_aligned);
      write_large_file(pieces, file.get(), kCached);
      EXPECT_TRUE(read_whole(file.get()) == text) << size;
      EXPECT_EQ(::fcntl(file.get(), F_GETFL) & O_DIRECT, 0) << size;
    }
  }
}

// A memfd, and others, have no direct writes: see fcntl(2).
TEST(LargeFile, IsWrittenWhereNothingIsDirect) {
  const std::string text = random_text(kCached + (5 << 20) + 3);
  const UniqueFd file(::memfd_create("large", MFD_CLOEXEC));
  Pieces pieces(text, true);
  write_large_file(pieces, file.get(), kCached);
  EXPECT_TRUE(read_whole(file.get()) == text);
}

TEST(LargeFile, FailsAsItsWritesDo) {
  const std::string text = random_text(kCached + (2 << 20));
  for (const uint64_t at : {uint64_t{1}, uint64_t{6}}) {  // of the cached part, and behind it
    const UniqueFd file = new_file();
    Pieces pieces(text, true);
    failpoint::arm({.at = at, .error_number = ENOSPC});
    EXPECT_THROW(write_large_file(pieces, file.get(), kCached), SysError);
    failpoint::disarm();
  }
}

}  // namespace
}  // namespace veneer
