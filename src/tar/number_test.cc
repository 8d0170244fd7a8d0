#include "tar/number.h"

#include <gtest/gtest.h>

#include <limits>

#include "tar/test_archive.h"

namespace veneer::tar::test {
namespace {

using std::string_view_literals::operator""sv;

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
constexpr int64_t kLeast = std::numeric_limits<int64_t>::min();

std::string field(std::string_view text, size_t size = 12) {
  std::string all(text);
  all.resize(size);
  return all;
}

void expect_corrupt(std::string_view text) {
  try {
    const int64_t value = parse_field(text, "field");
    ADD_FAILURE() << text << " gave " << value;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::corrupt);
    EXPECT_NE(error.message().find("field"), std::string::npos) << error.message();
  }
}

TEST(Number, ReadsOctalFields) {
  EXPECT_EQ(parse_field(field("0000644"), "field"), 0644);
  EXPECT_EQ(parse_field(field("   644 "), "field"), 0644);
  EXPECT_EQ(parse_field(field("644\0 "sv), "field"), 0644);
  EXPECT_EQ(parse_field(field("\0\000644 "sv), "field"), 0644);
  EXPECT_EQ(parse_field("777777777777", "field"), 0777777777777);
  EXPECT_EQ(parse_field(field(""), "field"), 0);
  EXPECT_EQ(parse_field("            ", "field"), 0);
  EXPECT_EQ(parse_field(field("644\0junk"sv), "field"), 0644);
  for (const std::string_view text :
       {"x"sv, "8"sv, "0x10"sv, "-1"sv, "+1"sv, "64 4"sv, "64x"sv, "644 \0x"sv, "\x7f"sv, " \0a"sv})
    expect_corrupt(field(text));
}

TEST(Number, ReadsBase256Fields) {
  for (const int64_t value : {int64_t{0}, int64_t{1}, int64_t{-1}, int64_t{255}, int64_t{-256},
                              int64_t{1} << 40, kMost, kLeast})
    EXPECT_EQ(parse_field(base256(value, 12), "field"), value);
  // Of eight bytes, the first gives its mark and the sign: 62 bits are left.
  EXPECT_EQ(parse_field(field("\x80\xff", 8), "field"), int64_t{0xff} << 48);
  EXPECT_EQ(parse_field(field("\xbf\xff", 8), "field"), int64_t{0x3fff} << 48);
  EXPECT_EQ(parse_field(field("\xff\xff", 8), "field"), -(int64_t{1} << 48));
  std::string too_much = base256(kMost, 12);
  too_much[3] = 1;
  expect_corrupt(too_much);
  std::string too_little = base256(kLeast, 12);
  too_little[3] = '\xfe';
  expect_corrupt(too_little);
  EXPECT_THROW(parse_unsigned_field(base256(-1, 12), "field"), Error);
  EXPECT_EQ(parse_unsigned_field(base256(kMost, 12), "field"), static_cast<uint64_t>(kMost));
}

TEST(Number, ReadsDecimals) {
  EXPECT_EQ(parse_decimal("0", "number"), 0u);
  EXPECT_EQ(parse_decimal("18446744073709551615", "number"), std::numeric_limits<uint64_t>::max());
  for (const std::string_view text :
       {"", " 1", "1 ", "+1", "-1", "0x1", "1e3", "1.0", "18446744073709551616"})
    EXPECT_THROW(parse_decimal(text, "number"), Error) << text;
}

TEST(Number, ReadsPaxTimes) {
  const std::vector<std::pair<std::string_view, Timestamp>> times = {
      {"0", {0, 0}},
      {"-0", {0, 0}},
      {"1700000000", {1700000000, 0}},
      {"1.", {1, 0}},
      {"1.5", {1, 500'000'000}},
      {"1.000000001", {1, 1}},
      {"1.0000000019", {1, 1}},
      {"-1", {-1, 0}},
      {"-1.5", {-2, 500'000'000}},
      {"-0.000000001", {-1, 999'999'999}},
      {"-0.0000000001", {0, 0}},
      {"9223372036854775807.999999999", {kMost, 999'999'999}},
      {"-9223372036854775808", {kLeast, 0}},
      {"-9223372036854775807.5", {kLeast, 500'000'000}}};
  for (const auto& [text, time] : times) EXPECT_EQ(parse_pax_time(text), time) << text;
  for (const std::string_view text :
       {"", "-", ".5", "-.5", "+1", " 1", "1 ", "1.5x", "1.-5", "1,5", "1e5", "--1", "1.2.3",
        "9223372036854775808", "-9223372036854775809", "-9223372036854775808.5"})
    EXPECT_THROW(parse_pax_time(text), Error) << text;
}

TEST(Number, WritesPaxTimesThatReadBack) {
  EXPECT_EQ(format_pax_time({1, 500'000'000}), "1.5");
  EXPECT_EQ(format_pax_time({0, 1}), "0.000000001");
  EXPECT_EQ(format_pax_time({-2, 500'000'000}), "-1.5");
  EXPECT_EQ(format_pax_time({-1, 999'999'990}), "-0.00000001");
  EXPECT_EQ(format_pax_time({-10, 0}), "-10");
  for (const int64_t seconds : {kLeast, int64_t{-1}, int64_t{0}, int64_t{1}, kMost})
    for (const uint32_t nanoseconds : {0u, 1u, 500'000'000u, 999'999'999u}) {
      const Timestamp time{seconds, nanoseconds};
      EXPECT_EQ(parse_pax_time(format_pax_time(time)), time);
    }
}

TEST(Number, NarrowsTo32Bits) {
  EXPECT_EQ(narrow(0xffffffff, "uid"), 0xffffffff);
  EXPECT_THROW(narrow(0x100000000, "uid"), Error);
}

}  // namespace
}  // namespace veneer::tar::test
