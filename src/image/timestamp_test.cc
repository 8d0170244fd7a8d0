#include "image/timestamp.h"

#include <gtest/gtest.h>

namespace veneer {
namespace {

std::string again(std::string_view text) {
  const auto time = maybe_parse_timestamp(text);
  return time ? format_timestamp(*time) : "nothing";
}

TEST(Timestamp, IsReadAndWritten) {
  EXPECT_EQ(again("1970-01-01T00:00:00Z"), "1970-01-01T00:00:00Z");
  EXPECT_EQ(again("2024-02-29T23:59:59.123456789Z"), "2024-02-29T23:59:59.123456789Z");
  EXPECT_EQ(again("2024-01-02T03:04:05.600000000Z"), "2024-01-02T03:04:05.6Z");
  EXPECT_EQ(again("2024-01-02T03:04:05.0000000019Z"), "2024-01-02T03:04:05.000000001Z");
  EXPECT_EQ(again("2024-01-01T01:30:00+02:00"), "2023-12-31T23:30:00Z");
  EXPECT_EQ(again("2024-01-01T01:30:00-02:30"), "2024-01-01T04:00:00Z");
  EXPECT_EQ(again("1969-12-31T23:59:59.5Z"), "1969-12-31T23:59:59.5Z");
  EXPECT_EQ(again("2016-12-31T23:59:60Z"), "2017-01-01T00:00:00Z");
}

TEST(Timestamp, OthersAreNothing) {
  for (const char* text :
       {"", "2024", "2024-01-02", "2024-01-02T03:04:05", "2024-13-02T03:04:05Z",
        "2024-02-30T03:04:05Z", "2024-01-02T24:04:05Z", "2024-01-02T03:04:05.Z",
        "2024-01-02T03:04:05Zx", "2024-01-02 03:04:05Z", "0001-01-01T00:00:00Z",
        "2024-01-02T03:04:05+2:00", "2024-1-02T03:04:05Z", "9999-01-01T00:00:00Z"})
    EXPECT_EQ(again(text), "nothing") << text;
}

}  // namespace
}  // namespace veneer
