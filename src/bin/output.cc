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

std::string human_size(uint64_t size_bytes) {
  if (size_bytes < 1000) return fmt::format("{} B", size_bytes);
  constexpr std::string_view kPrefixes = "kMGTPE";
  auto value = static_cast<double>(size_bytes) / 1000;
  size_t prefix = 0;
  // What would be rounded to 1000.0 is 1.0 of the next unit.
  for (; value >= 999.95 && prefix + 1 < kPrefixes.size(); ++prefix) value /= 1000;
  return fmt::format("{:.1f} {}B", value, kPrefixes[prefix]);
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
