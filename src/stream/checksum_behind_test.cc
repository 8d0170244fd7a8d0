#include "stream/checksum_behind.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <string>

#include "base/at.h"
#include "base/error.h"
#include "stream/checksum.h"

namespace veneer {
namespace {

class Crc64BehindTest : public testing::Test {
 protected:
  Crc64BehindTest() : file_(::memfd_create("file", MFD_CLOEXEC)) {
    for (size_t i = 0; i < 3 * kChunkBytes + 123; ++i) text_ += static_cast<char>(i * i >> 7);
    write_all(file_.get(), bytes());
  }
  Bytes bytes(size_t size = SIZE_MAX) const {
    return std::as_bytes(std::span(text_).first(std::min(size, text_.size())));
  }
  uint64_t crc_of(Bytes bytes) const {
    Crc64 crc;
    crc.update(bytes);
    return crc.value();
  }

  std::string text_;
  UniqueFd file_;
};

TEST_F(Crc64BehindTest, SumsAsFarAsItIsTold) {
  for (const size_t step : {size_t{1000}, kChunkBytes, text_.size()}) {
    Crc64Behind behind(file_.get());
    for (size_t end = step; end < text_.size(); end += step) behind.follow_to(end);
    behind.follow_to(text_.size());
    EXPECT_EQ(behind.finish(), crc_of(bytes())) << step;
  }
  Crc64Behind behind(file_.get());
  behind.follow_to(5000);
  EXPECT_EQ(behind.finish(), crc_of(bytes(5000)));
}

TEST_F(Crc64BehindTest, NothingIsZero) {
  Crc64Behind behind(file_.get());
  EXPECT_EQ(behind.finish(), 0u);
}

TEST_F(Crc64BehindTest, AFileThatEndsEarlyIsCorrupt) {
  Crc64Behind behind(file_.get());
  behind.follow_to(text_.size() + 1);
  try {
    behind.finish();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::corrupt);
  }
}

TEST_F(Crc64BehindTest, NobodyNeedsToFinish) {
  Crc64Behind behind(file_.get());
  behind.follow_to(text_.size() + 1);
}

}  // namespace
}  // namespace veneer
