// Times as image configs write them: RFC 3339, as Go's time.RFC3339Nano.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "store/time.h"

namespace veneer {

// "2024-01-02T03:04:05.6Z", or with an offset like +02:00. Nothing for what is not so, and for
// years that Time cannot hold (before 1678, after 2261).
std::optional<Time> maybe_parse_timestamp(std::string_view text);

// In UTC, with as many digits of a second as it takes.
std::string format_timestamp(Time time);

}  // namespace veneer
