#include "tar/number.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <optional>

#include "base/error.h"

namespace veneer::tar {
namespace {

constexpr uint32_t kBillion = 1'000'000'000;

bool is_blank(char c) {
  return c == ' ' || c == '\0';
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

int64_t parse_base256(std::string_view field, std::string_view what) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() >> 8;
  constexpr int64_t kLeast = std::numeric_limits<int64_t>::min() >> 8;
  const auto first = static_cast<uint8_t>(field.front());
  int64_t value = (first & 0x3f) - (first & 0x40);
  for (const char c : field.substr(1)) {
    if (value > kMost || value < kLeast)
      fail(Code::corrupt, "the {} does not fit into 64 bits", what);
    value = value * 256 + static_cast<uint8_t>(c);
  }
  return value;
}

std::optional<uint64_t> maybe_decimal(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

// Of ".25" the 250 million.
std::optional<uint32_t> maybe_nanoseconds(std::string_view fraction) {
  uint32_t value = 0;
  uint32_t unit = kBillion / 10;
  for (const char c : fraction.substr(1)) {
    if (!is_digit(c)) return {};
    value += static_cast<uint32_t>(c - '0') * unit;
    unit /= 10;
  }
  return value;
}

}  // namespace

int64_t parse_field(std::string_view field, std::string_view what) {
  if (static_cast<uint8_t>(field.front()) >= 0x80) return parse_base256(field, what);
  size_t at = 0;
  while (at < field.size() && is_blank(field[at])) ++at;
  int64_t value = 0;  // at most 12 digits
  for (; at < field.size() && field[at] >= '0' && field[at] <= '7'; ++at)
    value = value * 8 + (field[at] - '0');
  const bool ends = at == field.size() || field[at] == '\0';
  while (at < field.size() && is_blank(field[at])) ++at;
  if (!ends && at < field.size()) fail(Code::corrupt, "the {} is not an octal number", what);
  return value;
}

uint64_t parse_unsigned_field(std::string_view field, std::string_view what) {
  const int64_t value = parse_field(field, what);
  if (value < 0) fail(Code::corrupt, "the {} is negative", what);
  return static_cast<uint64_t>(value);
}

uint64_t parse_decimal(std::string_view text, std::string_view what) {
  const std::optional<uint64_t> value = maybe_decimal(text);
  if (!value) fail(Code::corrupt, "the {} is not a decimal number of 64 bits", what);
  return *value;
}

Timestamp parse_pax_time(std::string_view text) {
  const bool is_negative = text.starts_with('-');
  if (is_negative) text.remove_prefix(1);
  const std::string_view whole = text.substr(0, text.find('.'));
  const std::string_view fraction = text.substr(whole.size());
  const std::optional<uint64_t> seconds = maybe_decimal(whole);
  const std::optional<uint32_t> nanoseconds = fraction.empty() ? 0 : maybe_nanoseconds(fraction);
  if (!seconds || !nanoseconds) fail(Code::corrupt, "the time is not a decimal number");

  // What is negative and has a fraction rounds down, and the fraction counts up from there.
  const bool rounds_down = is_negative && *nanoseconds > 0;
  const uint64_t magnitude_limit =
      static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) + (is_negative && !rounds_down);
  if (*seconds > magnitude_limit) fail(Code::corrupt, "the time does not fit into 64 bits");
  if (!is_negative) return {static_cast<int64_t>(*seconds), *nanoseconds};
  const auto negated = static_cast<int64_t>(-*seconds);
  if (!rounds_down) return {negated, 0};
  return {negated - 1, kBillion - *nanoseconds};
}

std::string format_pax_time(const Timestamp& time) {
  if (time.nanoseconds == 0) return fmt::format("{}", time.seconds);
  std::string text =
      time.seconds < 0 ? fmt::format("-{}.{:09}", -(time.seconds + 1), kBillion - time.nanoseconds)
                       : fmt::format("{}.{:09}", time.seconds, time.nanoseconds);
  text.erase(text.find_last_not_of('0') + 1);
  return text;
}

uint32_t narrow(uint64_t value, std::string_view what) {
  if (value > std::numeric_limits<uint32_t>::max())
    fail(Code::corrupt, "the {} {} does not fit into 32 bits", what, value);
  return static_cast<uint32_t>(value);
}

}  // namespace veneer::tar
