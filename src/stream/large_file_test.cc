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

// In pieces that keep to no boundary.
void write_in_pieces(Sink& to, std::string_view text) {
  for (size_t piece = 1; !text.empty(); piece = piece * 3 % 777'777 + 1) {
    const std::string_view part = text.substr(0, piece);
    to.write(std::as_bytes(std::span(part)));
    text.remove_prefix(part.size());
  }
}

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
    const UniqueFd file = new_file();
    LargeFileSink sink(file.get(), kCached);
    write_in_pieces(sink, text);
    sink.finish();
    EXPECT_TRUE(read_whole(file.get()) == text) << size;
    EXPECT_EQ(::fcntl(file.get(), F_GETFL) & O_DIRECT, 0) << size;
  }
}

// A memfd, and others, have no direct writes: see fcntl(2).
TEST(LargeFile, IsWrittenWhereNothingIsDirect) {
  const std::string text = random_text(kCached + (5 << 20) + 3);
  const UniqueFd file(::memfd_create("large", MFD_CLOEXEC));
  LargeFileSink sink(file.get(), kCached);
  write_in_pieces(sink, text);
  sink.finish();
  EXPECT_TRUE(read_whole(file.get()) == text);
}

TEST(LargeFile, AFailureOfTheThreadIsToldByALaterCall) {
  const std::string text = random_text(kCached);
  const UniqueFd file = new_file();
  LargeFileSink sink(file.get(), kCached);
  write_in_pieces(sink, text);
  failpoint::arm({.at = 1, .error_number = ENOSPC});
  EXPECT_THROW(
      {
        write_in_pieces(sink, text);
        sink.finish();
      },
      SysError);
  failpoint::disarm();
}

TEST(LargeFile, WhatIsAbandonedEndsItsThread) {
  const UniqueFd file = new_file();
  LargeFileSink sink(file.get(), kCached);
  write_in_pieces(sink, random_text(kCached + (2 << 20) + 5));
}

}  // namespace
}  // namespace veneer
