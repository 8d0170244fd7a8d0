// Numbers as tar headers write them: octal or base-256 in fixed fields, decimal in PAX records.
//
// All throw corrupt, naming `what`, for anything that is not wholly a number of the range.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tar/entry.h"

namespace veneer::tar {

// A header field. Octal: blanks (spaces and NULs), digits, then a NUL, or spaces to the end; all
// blank is 0. Base-256 (GNU): the first byte's high bit is set, the rest is two's complement.
int64_t parse_field(std::string_view field, std::string_view what);
// The same, not negative.
uint64_t parse_unsigned_field(std::string_view field, std::string_view what);

// Digits only.
uint64_t parse_decimal(std::string_view text, std::string_view what);
// PAX times: an optional minus, digits, and perhaps a fraction, of which nine digits count.
Timestamp parse_pax_time(std::string_view text);
// In the shortest form that parse_pax_time() reads back.
std::string format_pax_time(const Timestamp& time);

// Throws for more than 32 bits.
uint32_t narrow(uint64_t value, std::string_view what);

}  // namespace veneer::tar
