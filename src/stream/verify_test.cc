#include "stream/verify.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "base/error.h"

namespace veneer {
namespace {

constexpr std::string_view kText = "some bytes of a layer";

Bytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// What comes through before the end or an error, and the error's message.
struct Outcome {
  std::string text;
  std::string error;
};

Outcome read(VerifyingSource& source) {
  Outcome outcome;
  std::vector<std::byte> room(kChunkBytes);
  try {
    for (Bytes got = source.next(room); !got.empty(); got = source.next(room)) {
      outcome.text.append(reinterpret_cast<const char*>(got.data()), got.size());
    }
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::corrupt);
    outcome.error = error.message();
  }
  return outcome;
}

TEST(VerifyingSource, PassesWhatIsExpected) {
  for (const size_t piece : {size_t{1}, size_t{7}, kChunkBytes}) {
    MemorySource from(bytes_of(kText), piece);
    VerifyingSource source(from, Sha256::of(kText), "blob", kText.size());
    const Outcome outcome = read(source);
    EXPECT_EQ(outcome.text, kText);
    EXPECT_EQ(outcome.error, "");
    std::vector<std::byte> room(kChunkBytes);
    EXPECT_TRUE(source.next(room).empty()) << "the end is not the end";
  }
}

TEST(VerifyingSource, AnEmptyStreamIsVerifiedToo) {
  MemorySource good({});
  VerifyingSource empty(good, Sha256::of(""), "blob", 0);
  EXPECT_EQ(read(empty).error, "");
  MemorySource bad({});
  VerifyingSource wrong(bad, Sha256::of(kText), "blob");
  EXPECT_NE(read(wrong).error, "");
}

TEST(VerifyingSource, AnotherDigestThrowsInsteadOfTheEnd) {
  MemorySource from(bytes_of(kText), 5);
  VerifyingSource source(from, Sha256::of("other"), "blob");
  const Outcome outcome = read(source);
  EXPECT_EQ(outcome.text, kText);
  EXPECT_EQ(outcome.error, "blob: the digest is " + Sha256::of(kText).str() + ", not " +
                               Sha256::of("other").str());
}

TEST(VerifyingSource, AShorterStreamIsNamedAsSuch) {
  MemorySource from(bytes_of(kText));
  VerifyingSource source(from, Sha256::of(kText), "blob", kText.size() + 1);
  EXPECT_EQ(read(source).error, "blob: has 21 bytes, not 22");
}

TEST(VerifyingSource, ALongerStreamIsRefusedWithItsFirstByteTooMany) {
  MemorySource from(bytes_of(kText), 10);
  VerifyingSource source(from, Sha256::of(kText), "blob", 15);
  const Outcome outcome = read(source);
  EXPECT_EQ(outcome.text, kText.substr(0, 10));
  EXPECT_EQ(outcome.error, "blob: has at least 20 bytes, not 15");
}

}  // namespace
}  // namespace veneer
