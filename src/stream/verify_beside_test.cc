#include "stream/verify_beside.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"

namespace veneer {
namespace {

const std::string kText(100'000, 'x');

Bytes bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// What comes through before the end or an error, and the error's message.
struct Outcome {
  std::string text;
  std::string error;
};

Outcome read(Source& source) {
  Outcome outcome;
  std::vector<std::byte> room(kChunkBytes);
  try {
    for (Bytes got = source.next(room); !got.empty(); got = source.next(room))
      outcome.text.append(reinterpret_cast<const char*>(got.data()), got.size());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::corrupt);
    outcome.error = error.message();
  }
  return outcome;
}

TEST(VerifyingBesideSource, PassesWhatIsExpected) {
  for (const size_t piece : {size_t{100}, size_t{777}, kChunkBytes}) {
    MemorySource from(bytes_of(kText), piece);
    VerifyingBesideSource source(from, Sha256::of(kText), "blob", kText.size());
    const Outcome outcome = read(source);
    EXPECT_EQ(outcome.text, kText);
    EXPECT_EQ(outcome.error, "");
    std::vector<std::byte> room(kChunkBytes);
    EXPECT_TRUE(source.next(room).empty()) << "the end is not the end";
  }
}

TEST(VerifyingBesideSource, RefusesAnotherDigestInsteadOfTheEnd) {
  MemorySource from(bytes_of(kText), 1000);
  VerifyingBesideSource source(from, Sha256::of("other"), "uncompressed");
  const Outcome outcome = read(source);
  EXPECT_EQ(outcome.text, kText);
  EXPECT_TRUE(outcome.error.starts_with("uncompressed: the digest is ")) << outcome.error;
}

TEST(VerifyingBesideSource, RefusesAStreamThatIsTooLongBeforeItsEnd) {
  MemorySource from(bytes_of(kText), 1000);
  VerifyingBesideSource source(from, Sha256::of(kText), "blob", 4500);
  const Outcome outcome = read(source);
  EXPECT_EQ(outcome.text.size(), 5000u);
  EXPECT_EQ(outcome.error, "blob: has at least 5000 bytes, not 4500");
}

TEST(VerifyingBesideSource, RefusesAStreamThatIsTooShort) {
  MemorySource from(bytes_of(kText), 1000);
  VerifyingBesideSource source(from, Sha256::of(kText), "blob", kText.size() + 1);
  EXPECT_EQ(read(source).error, "blob: has 100000 bytes, not 100001");
}

TEST(VerifyingBesideSource, CanBeLeftAtAnyPoint) {
  std::vector<std::byte> room(kChunkBytes);
  for (size_t calls = 0; calls < 10; ++calls) {
    MemorySource from(bytes_of(kText), 1000);
    VerifyingBesideSource source(from, Sha256::of(kText), "blob");
    for (size_t call = 0; call < calls; ++call) (void)source.next(room);
  }
}

}  // namespace
}  // namespace veneer
