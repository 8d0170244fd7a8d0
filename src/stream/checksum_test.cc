#include "stream/checksum.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

namespace veneer {
namespace {

Bytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

uint64_t crc_of(std::string_view text) {
  Crc64 crc;
  crc.update(bytes_of(text));
  return crc.value();
}

// Bit by bit, from the definition.
uint64_t slow_crc_of(std::string_view text) {
  uint64_t crc = ~uint64_t{0};
  for (const std::byte byte : bytes_of(text)) {
    crc ^= std::to_integer<uint64_t>(byte);
    for (int bit = 0; bit < 8; ++bit)
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xc96c5795d7870f42 : uint64_t{0});
  }
  return ~crc;
}

std::string noise(size_t size) {
  std::string text;
  uint32_t state = 1;
  while (text.size() < size) {
    state = state * 1664525 + 1013904223;
    text += static_cast<char>(state >> 24);
  }
  return text;
}

// The check value that the catalogues of CRCs have.
TEST(Crc64, IsThatOfXz) {
  EXPECT_EQ(crc_of("123456789"), 0x995dc9bbdf1939faU);
  EXPECT_EQ(crc_of(""), 0u);
}

TEST(Crc64, IsWhatTheDefinitionSays) {
  const std::string text = noise(5000);
  for (const size_t size :
       std::initializer_list<size_t>{1, 7, 8, 15, 16, 63, 127, 128, 129, 255, 256, 257, 1023, 4999})
    EXPECT_EQ(crc_of(text.substr(1, size)), slow_crc_of(text.substr(1, size))) << size;
}

TEST(Crc64, DoesNotDependOnThePieces) {
  const std::string text = noise(70000);
  for (const size_t piece : std::initializer_list<size_t>{1, 13, 512, 4096, 65536}) {
    MemorySource memory(bytes_of(text), piece);
    Crc64Source read(memory);
    StringSink copy;
    Crc64Sink written(copy);
    copy_all(read, written);
    EXPECT_EQ(read.value(), crc_of(text)) << piece;
    EXPECT_EQ(written.value(), crc_of(text)) << piece;
    EXPECT_EQ(copy.text(), text) << piece;
  }
}

TEST(Crc64, OneBitIsSeen) {
  std::string text = noise(100000);
  const uint64_t before = crc_of(text);
  text[54321] ^= 4;
  EXPECT_NE(crc_of(text), before);
}

}  // namespace
}  // namespace veneer
