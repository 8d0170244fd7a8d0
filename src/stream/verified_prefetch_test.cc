#include "stream/verified_prefetch.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
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

TEST(VerifiedPrefetchSource, PassesWhatIsExpected) {
  for (const size_t piece : {size_t{100}, size_t{777}, kChunkBytes}) {
    MemorySource from(bytes_of(kText), piece);
    VerifiedPrefetchSource source(from, Sha256::of(kText), "blob");
    const Outcome outcome = read(source);
    EXPECT_EQ(outcome.text, kText);
    EXPECT_EQ(outcome.error, "");
    std::vector<std::byte> room(kChunkBytes);
    EXPECT_TRUE(source.next(room).empty()) << "the end is not the end";
  }
}

TEST(VerifiedPrefetchSource, RefusesAnotherDigestAtTheLatestInPlaceOfTheEnd) {
  for (const size_t piece : {size_t{1000}, kChunkBytes}) {
    MemorySource from(bytes_of(kText), piece);
    VerifiedPrefetchSource source(from, Sha256::of("other"), "uncompressed");
    const Outcome outcome = read(source);
    EXPECT_TRUE(kText.starts_with(outcome.text));
    EXPECT_TRUE(outcome.error.starts_with("uncompressed: the digest is ")) << outcome.error;
  }
}

TEST(VerifiedPrefetchSource, CanBeLeftAtAnyPoint) {
  std::vector<std::byte> room(kChunkBytes);
  for (size_t calls = 0; calls < 10; ++calls) {
    MemorySource from(bytes_of(kText), 1000);
    VerifiedPrefetchSource source(from, Sha256::of(kText), "blob");
    for (size_t call = 0; call < calls; ++call) (void)source.next(room);
  }
}

// Fails after its text.
class FailingSource : public Source {
 public:
  Bytes next(Room) override {
    if (std::exchange(is_over_, true)) fail(Code::corrupt, "no more");
    return bytes_of(kText);
  }

 private:
  bool is_over_ = false;
};

TEST(VerifiedPrefetchSource, AFailureBelowComesAfterAllThatWasGood) {
  FailingSource from;
  VerifiedPrefetchSource source(from, Sha256::of(kText), "blob");
  const Outcome outcome = read(source);
  EXPECT_EQ(outcome.text, kText);
  EXPECT_EQ(outcome.error, "no more");
}

}  // namespace
}  // namespace veneer
