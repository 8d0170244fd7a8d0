#include "stream/stream.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace veneer {
namespace {

Bytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string text_of(Source& source) {
  return read_all(source, 1 << 20, "the text");
}

UniqueFd file_of(std::string_view text) {
  UniqueFd fd(check(::memfd_create("stream_test", MFD_CLOEXEC), "memfd_create"));
  write_all(fd.get(), bytes_of(text));
  check(::lseek(fd.get(), 0, SEEK_SET), "lseek");
  return fd;
}

template <typename Function>
Code code_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return Code::io;
}

TEST(FdSource, ReadsFromThePositionToTheEndIntoTheRoom) {
  const UniqueFd fd = file_of("0123456789");
  check(::lseek(fd.get(), 3, SEEK_SET), "lseek");
  FdSource source(fd.get());
  std::vector<std::byte> room(kChunkBytes);
  const Bytes bytes = source.next(room);
  EXPECT_EQ(text_of(bytes), "3456789");
  EXPECT_EQ(bytes.data(), room.data());
  EXPECT_TRUE(source.next(room).empty());
  EXPECT_TRUE(source.next(room).empty());
}

TEST(FdSource, NamesTheErrno) {
  FdSource source(-1);
  EXPECT_THROW(drain(source), SysError);
}

TEST(FileRangeSource, ReadsItsPartAndLeavesThePosition) {
  const UniqueFd fd = file_of("0123456789");
  FileRangeSource middle(fd.get(), 2, 5);
  FileRangeSource other(fd.get(), 9, 1);
  FileRangeSource nothing(fd.get(), 10, 0);
  EXPECT_EQ(text_of(middle), "23456");
  EXPECT_EQ(text_of(middle), "");
  EXPECT_EQ(text_of(other), "9");
  EXPECT_EQ(text_of(nothing), "");
  EXPECT_EQ(::lseek(fd.get(), 0, SEEK_CUR), 0);
}

TEST(FileRangeSource, ReadsMoreThanOneRoom) {
  std::string text(2 * kChunkBytes + 17, '\0');
  std::iota(text.begin(), text.end(), '\0');
  const UniqueFd fd = file_of(text);
  FileRangeSource source(fd.get(), 1, text.size() - 2);
  EXPECT_EQ(text_of(source), text.substr(1, text.size() - 2));
}

TEST(FileRangeSource, AFileThatEndsBeforeThePartIsCorrupt) {
  const UniqueFd fd = file_of("0123456789");
  FileRangeSource source(fd.get(), 5, 6);
  std::vector<std::byte> room(kChunkBytes);
  EXPECT_EQ(text_of(source.next(room)), "56789");
  EXPECT_EQ(code_of([&] { source.next(room); }), Code::corrupt);
}

TEST(MemorySource, GivesItsOwnMemoryInPieces) {
  constexpr std::string_view kText = "0123456789";
  MemorySource source(bytes_of(kText), 4);
  std::vector<std::byte> room(kChunkBytes);
  const Bytes first = source.next(room);
  EXPECT_EQ(text_of(first).data(), kText.data());
  EXPECT_EQ(text_of(first), "0123");
  EXPECT_EQ(text_of(source.next(room)), "4567");
  EXPECT_EQ(text_of(source.next(room)), "89");
  EXPECT_TRUE(source.next(room).empty());
  EXPECT_TRUE(source.next(room).empty());
}

TEST(HashingSource, DigestsAndCountsWhatPassed) {
  MemorySource memory(bytes_of("0123456789"), 3);
  HashingSource source(memory);
  EXPECT_EQ(text_of(source), "0123456789");
  EXPECT_EQ(source.count(), 10U);
  EXPECT_EQ(source.digest(), Sha256::of("0123456789"));
}

TEST(HashingSink, DigestsAndCountsWhatWasWritten) {
  StringSink to;
  HashingSink sink(to);
  for (const std::string_view text : {"one ", "", "two"})
    sink.write(std::as_bytes(std::span(text)));
  EXPECT_EQ(to.text(), "one two");
  EXPECT_EQ(sink.count(), 7U);
  EXPECT_EQ(sink.digest(), Sha256::of("one two"));
}

TEST(CountingSource, TellsEveryPieceAndNotTheEnd) {
  MemorySource memory(bytes_of("0123456789"), 4);
  std::vector<size_t> seen;
  CountingSource source(memory, [&](size_t size) { seen.push_back(size); });
  EXPECT_EQ(text_of(source), "0123456789");
  EXPECT_EQ(seen, (std::vector<size_t>{4, 4, 2}));
}

TEST(LimitedSource, TakesTheLimitAndRefusesOneMore) {
  for (const size_t piece : {size_t{1}, size_t{4}, kChunkBytes}) {
    MemorySource fits(bytes_of("0123456789"), piece);
    LimitedSource good(fits, 10, "the layer");
    EXPECT_EQ(text_of(good), "0123456789");
    MemorySource more(bytes_of("0123456789"), piece);
    LimitedSource bad(more, 9, "the layer");
    try {
      drain(bad);
      ADD_FAILURE() << "the limit does not hold";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::resource_exhausted);
      EXPECT_EQ(error.message(), "the layer has more than 9 bytes");
    }
  }
}

TEST(ReadAll, TakesTheLimitAndRefusesOneMore) {
  MemorySource fits(bytes_of("0123456789"), 3);
  EXPECT_EQ(read_all(fits, 10, "a manifest"), "0123456789");
  MemorySource more(bytes_of("0123456789"), 3);
  EXPECT_EQ(code_of([&] { read_all(more, 9, "a manifest"); }), Code::resource_exhausted);
}

TEST(CopyAll, WritesEverythingToADescriptor) {
  const UniqueFd fd = file_of("");
  MemorySource memory(bytes_of("0123456789"), 3);
  FdSink sink(fd.get());
  copy_all(memory, sink);
  FileRangeSource written(fd.get(), 0, 10);
  EXPECT_EQ(text_of(written), "0123456789");
  EXPECT_EQ(stat_fd(fd.get()).st_size, 10);
}

TEST(ChunkReader, TakesWithoutCopyingUpToThePiece) {
  constexpr std::string_view kText = "0123456789";
  MemorySource memory(bytes_of(kText), 4);
  ChunkReader reader(memory);
  EXPECT_TRUE(reader.take(0).empty());
  const Bytes three = reader.take(3);
  EXPECT_EQ(text_of(three).data(), kText.data());
  EXPECT_EQ(text_of(three), "012");
  EXPECT_EQ(text_of(reader.take(100)), "3");
  EXPECT_EQ(text_of(reader.take(100)), "4567");
  EXPECT_EQ(reader.offset(), 8U);
  EXPECT_EQ(text_of(reader.take(~uint64_t{0})), "89");
  EXPECT_TRUE(reader.take(1).empty());
  EXPECT_TRUE(reader.take(1).empty());
  EXPECT_EQ(reader.offset(), 10U);
}

TEST(ChunkReader, ReadsAndSkipsExactAmountsOverPieces) {
  for (const size_t piece : {size_t{1}, size_t{3}, size_t{100}}) {
    MemorySource memory(bytes_of("0123456789"), piece);
    ChunkReader reader(memory);
    std::array<std::byte, 4> out{};
    EXPECT_EQ(reader.read(out), 4U);
    EXPECT_EQ(text_of(Bytes(out)), "0123");
    EXPECT_EQ(reader.skip(0), 0U);
    EXPECT_EQ(reader.skip(3), 3U);
    EXPECT_EQ(reader.offset(), 7U);
    EXPECT_EQ(reader.read(out), 3U);
    EXPECT_EQ(text_of(Bytes(out).first(3)), "789");
    EXPECT_EQ(reader.read(out), 0U);
    EXPECT_EQ(reader.skip(5), 0U);
    EXPECT_EQ(reader.offset(), 10U);
  }
}

TEST(ChunkReader, SkipSaysHowMuchThereWas) {
  MemorySource memory(bytes_of("0123456789"), 4);
  ChunkReader reader(memory);
  EXPECT_EQ(reader.skip(11), 10U);
}

}  // namespace
}  // namespace veneer
