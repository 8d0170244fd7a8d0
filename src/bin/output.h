// What the commands print: results on standard output, everything else on standard error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "store/time.h"

namespace veneer {

enum class LogLevel { error, info, debug };

// Writes `text` to standard output, all of it or a SysError.
void print(std::string_view text);
// One line "veneer: TEXT" on standard error, whatever `text` holds. Never throws: where standard
// error does not work there is nobody to tell.
void print_error(std::string_view text);

// `text` as part of one line of a terminal: control characters and bytes that are not UTF-8 are
// written \xNN and backslashes doubled, so that it can be undone and cannot steer the terminal.
std::string printable(std::string_view text);

// "0 B", "999 B", "1.0 kB", "12.3 MB": powers of 1000, as Docker shows them.
std::string human_size(uint64_t size_bytes);
// "1 layer", "2 layers".
std::string human_count(uint64_t count, std::string_view one);

// "less than a second ago", "5 minutes ago", "3 weeks ago": one unit, rounded down. A time to come
// is "in the future".
std::string human_age(Time then, Time now);
// "2026-11-24T06:33:10.5Z" (RFC 3339), with as many digits after the second as there are.
std::string rfc3339(Time time);

// Rows of cells in aligned columns, two spaces apart.
class Table {
 public:
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  // All lines; cells are made printable(), and no line ends in spaces.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace veneer
