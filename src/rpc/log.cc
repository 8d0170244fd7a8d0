#include "rpc/log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "base/at.h"
#include "base/error.h"
#include "image/timestamp.h"

namespace veneer {

namespace {

constexpr std::string_view kLevels[] = {"error", "info", "debug"};  // by Log::Level

bool is_plain(char c) {
  return c > ' ' && c < '\x7f' && c != '"' && c != '=' && c != '\\';
}

std::string quoted(std::string_view text) {
  if (!text.empty() && std::ranges::all_of(text, is_plain)) return std::string(text);
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace

std::string log_line(Log::Level level, std::initializer_list<LogField> fields) {
  std::string line = fmt::format("level={}", kLevels[static_cast<size_t>(level)]);
  for (const LogField& field : fields)
    line += fmt::format(" {}={}", field.name, quoted(field.value));
  return line;
}

Log::Log(Level most) : most_(most), has_times_(std::getenv("JOURNAL_STREAM") == nullptr) {}

void Log::write(Level level, std::initializer_list<LogField> fields) const {
  if (!takes(level)) return;
  try {
    std::string line;
    if (has_times_)
      line = "time=" + format_timestamp(floor<std::chrono::milliseconds>(now())) + " ";
    line += log_line(level, fields) + "\n";
    write_all(STDERR_FILENO, std::as_bytes(std::span(line)));
  } catch (const std::exception&) {
    // A full disk or a closed pipe must not end what is being logged.
  }
}

}  // namespace veneer
