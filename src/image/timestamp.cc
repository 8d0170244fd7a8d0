#include "image/timestamp.h"

#include <fmt/format.h>

#include <algorithm>

namespace veneer {

namespace {

constexpr int kNanosecondDigits = 9;

// Takes text apart, from its start on.
class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  bool is_good() const { return is_good_; }
  bool is_at_end() const { return text_.empty(); }
  bool skip_if(char wanted) {
    if (!text_.starts_with(wanted)) return false;
    text_.remove_prefix(1);
    return true;
  }
  void skip(char wanted) { is_good_ = skip_if(wanted) && is_good_; }
  // `digits` digits that say a number from `least` to `most`.
  int number(size_t digits, int least, int most) {
    int value = 0;
    for (size_t i = 0; i < digits; ++i) value = value * 10 + digit();
    is_good_ = is_good_ && value >= least && value <= most;
    return value;
  }
  // Of as many digits as there are; those after the ninth do not count.
  int nanoseconds() {
    int value = 0;
    int digits = 0;
    do {
      const int next = digit();
      if (digits < kNanosecondDigits) value = value * 10 + next;
      ++digits;
    } while (is_good_ && !text_.empty() && text_[0] >= '0' && text_[0] <= '9');
    for (; digits < kNanosecondDigits; ++digits) value *= 10;
    return value;
  }

 private:
  int digit() {
    if (text_.empty() || text_[0] < '0' || text_[0] > '9') {
      is_good_ = false;
      return 0;
    }
    const int value = text_[0] - '0';
    text_.remove_prefix(1);
    return value;
  }

  std::string_view text_;
  bool is_good_ = true;
};

std::chrono::minutes read_offset(Cursor& cursor) {
  if (cursor.skip_if('Z') || cursor.skip_if('z')) return {};
  const bool is_west = cursor.skip_if('-');
  if (!is_west) cursor.skip('+');
  const std::chrono::hours hours(cursor.number(2, 0, 23));
  cursor.skip(':');
  const std::chrono::minutes offset = hours + std::chrono::minutes(cursor.number(2, 0, 59));
  return is_west ? -offset : offset;
}

}  // namespace

std::optional<Time> maybe_parse_timestamp(std::string_view text) {
  Cursor cursor(text);
  const std::chrono::year year(cursor.number(4, 1678, 2261));
  cursor.skip('-');
  const std::chrono::month month(static_cast<unsigned>(cursor.number(2, 1, 12)));
  cursor.skip('-');
  const std::chrono::day day(static_cast<unsigned>(cursor.number(2, 1, 31)));
  if (!cursor.skip_if('t')) cursor.skip('T');
  const std::chrono::hours hours(cursor.number(2, 0, 23));
  cursor.skip(':');
  const std::chrono::minutes minutes(cursor.number(2, 0, 59));
  cursor.skip(':');
  const std::chrono::seconds seconds(cursor.number(2, 0, 60));
  const std::chrono::nanoseconds part(cursor.skip_if('.') ? cursor.nanoseconds() : 0);
  const std::chrono::minutes offset = read_offset(cursor);
  const std::chrono::year_month_day date(year, month, day);
  if (!cursor.is_good() || !cursor.is_at_end() || !date.ok()) return {};
  return Time(std::chrono::sys_days(date)) + hours + minutes + seconds + part - offset;
}

std::string format_timestamp(Time time) {
  const auto days = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(days);
  const std::chrono::hh_mm_ss clock(time - days);
  std::string text =
      fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", static_cast<int>(date.year()),
                  static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                  clock.hours().count(), clock.minutes().count(), clock.seconds().count());
  if (const auto part = clock.subseconds().count(); part != 0) {
    text += fmt::format(".{:09}", part);
    text.resize(text.find_last_not_of('0') + 1);
  }
  return text + "Z";
}

}  // namespace veneer
