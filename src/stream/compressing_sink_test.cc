#include "stream/compressing_sink.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace veneer {
namespace {

std::string sample(size_t size) {
  std::mt19937 random(1);
  std::string text;
  while (text.size() < size) text += fmt::format("line {} of the sample\n", random() % 1000);
  text.resize(size);
  return text;
}

std::string compress(Compression compression, std::string_view text, size_t piece) {
  StringSink out;
  CompressingSink sink(compression, out);
  for (size_t at = 0; at < text.size(); at += piece)
    sink.write(std::as_bytes(std::span(text.substr(at, piece))));
  sink.finish();
  return out.text();
}

class CompressingSinkTest : public testing::TestWithParam<Compression> {};

TEST_P(CompressingSinkTest, IsReadBack) {
  for (const size_t size : {size_t{0}, size_t{1}, kChunkBytes - 1, kChunkBytes, kChunkBytes + 1,
                            5 * kChunkBytes + 17}) {
    const std::string text = sample(size);
    const std::string compressed = compress(GetParam(), text, 1 << 20);
    MemorySource memory(std::as_bytes(std::span(compressed)), 1000);
    DecompressingSource plain(memory);
    EXPECT_TRUE(read_all(plain, 1 << 30, "text") == text) << size;
    EXPECT_EQ(plain.compression(), GetParam());
    if (size > kChunkBytes) {
      EXPECT_LT(compressed.size(), text.size() / 2);
    }
  }
}

TEST_P(CompressingSinkTest, PiecesDoNotMatter) {
  const std::string text = sample(3 * kChunkBytes + 5);
  const std::string whole = compress(GetParam(), text, text.size());
  for (const size_t piece : {size_t{511}, kChunkBytes, kChunkBytes + 3})
    EXPECT_TRUE(compress(GetParam(), text, piece) == whole) << piece;
}

INSTANTIATE_TEST_SUITE_P(Formats, CompressingSinkTest,
                         testing::Values(Compression::gzip, Compression::zstd),
                         [](const auto& tested) { return std::string(to_string(tested.param)); });

TEST(CompressingSink, PassesPlainBytesOnAndRefusesOthers) {
  EXPECT_EQ(compress(Compression::none, "abc", 2), "abc");
  EXPECT_THROW(compress(Compression::xz, "abc", 2), Error);
  EXPECT_THROW(compress(Compression::bzip2, "abc", 2), Error);
}

TEST(CompressingSink, GzipSaysNeitherNameNorTime) {
  const std::string compressed = compress(Compression::gzip, "abc", 2);
  EXPECT_EQ(compressed.substr(0, 8), std::string("\x1f\x8b\x08\0\0\0\0\0", 8));
}

}  // namespace
}  // namespace veneer
