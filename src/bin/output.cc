#include "bin/output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <span>

#include "base/at.h"
#include "base/error.h"
#include "bin/json_out.h"

namespace veneer {

namespace {

// Characters, not bytes: those that do not continue a UTF-8 sequence.
size_t width_of(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (c & '\xc0') != '\x80'; }));
}

// C0, DEL and C1 (U+0080 to U+009F), of which terminals take some for commands.
bool is_control(std::string_view sequence) {
  const char first = sequence.front();
  if (sequence.size() == 1) return (first >= 0 && first < 0x20) || first == 0x7f;
  return first == '\xc2' && (sequence[1] & '\xe0') == '\x80';
}

}  // namespace

void print(std::string_view text) {
  write_all(STDOUT_FILENO, std::as_bytes(std::span(text)));
}

void print_error(std::string_view text) {
  const std::string line = fmt::format("veneer: {}\n", printable(text));
  try {
    write_all(STDERR_FILENO, std::as_bytes(std::span(line)));
  } catch (const Error&) {
    return;
  }
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t length = std::max<size_t>(utf8_length(text), 1);
    const std::string_view sequence = text.substr(0, length);
    if (utf8_length(text) == 0 || is_control(sequence)) {
      for (const char c : sequence) {
        fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
      }
    } else if (sequence == "\\") {
      out += "\\\\";
    } else {
      out += sequence;
    }
    text.remove_prefix(length);
  }
  return out;
}

std::string human_count(uint64_t count, std::string_view one) {
  return fmt::format("{} {}{}", count, one, count == 1 ? "" : "s");
}

std::string human_size(uint64_t size_bytes) {
  if (size_bytes < 1000) return fmt::format("{} B", size_bytes);
  constexpr std::string_view kPrefixes = "kMGTPE";
  auto value = static_cast<double>(size_bytes) / 1000;
  size_t prefix = 0;
  // What would be rounded to 1000.0 is 1.0 of the next unit.
  for (; value >= 999.95 && prefix + 1 < kPrefixes.size(); ++prefix) value /= 1000;
  return fmt::format("{:.1f} {}B", value, kPrefixes[prefix]);
}

std::string human_age(Time then, Time now) {
  using std::chrono::days;
  using std::chrono::hours;
  using std::chrono::minutes;
  using std::chrono::seconds;
  struct Unit {
    std::string_view name;
    seconds size;
    seconds from;  // ages below this are said in the next smaller unit
  };
  constexpr Unit kUnits[] = {{"year", days(365), days(730)},    {"month", days(30), days(60)},
                             {"week", days(7), days(14)},       {"day", days(1), hours(48)},
                             {"hour", hours(1), hours(1)},      {"minute", minutes(1), minutes(1)},
                             {"second", seconds(1), seconds(1)}};
  if (then > now) return "in the future";
  const auto age = std::chrono::floor<seconds>(now - then);
  for (const Unit& unit : kUnits) {
    if (age < unit.from) continue;
    const auto count = age / unit.size;
    return fmt::format("{} {}{} ago", count, unit.name, count == 1 ? "" : "s");
  }
  return "less than a second ago";
}

std::string rfc3339(Time time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  std::string fraction;
  if (const auto nanoseconds = clock.subseconds().count(); nanoseconds != 0) {
    fraction = fmt::format(".{:09}", nanoseconds);
    fraction.erase(fraction.find_last_not_of('0') + 1);
  }
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     fraction);
}

std::string Table::text() const {
  std::vector<std::vector<std::string>> rows = rows_;
  std::vector<size_t> widths;
  for (std::vector<std::string>& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) {
      row[i] = printable(row[i]);
      widths[i] = std::max(widths[i], width_of(row[i]));
    }
  }
  std::string out;
  for (const std::vector<std::string>& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - width_of(row[i]) + 2, ' ');
    }
    out.erase(out.find_last_not_of(' ') + 1);
    out += '\n';
  }
  return out;
}

}  // namespace veneer
