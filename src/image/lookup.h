// What people call images and containers, found among what there is.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace veneer {

// True for what may be the start of an id: 4 to 64 lower-case hex digits. Without "sha256:".
bool is_id_prefix(std::string_view text);

// The one of `ids` (hex) that begins with `prefix`, which is_id_prefix(). Nothing if none does;
// throws invalid_argument if several do.
std::optional<std::string> maybe_id(std::string_view prefix, const std::vector<std::string>& ids);

// "; did you mean a, b or c?" with up to three of `names` that are near `wanted`, the nearest
// first; "" if none is. Near is at most a typing error or two away, or has the other in it. An
// image's tag, and what stands before its last slash, may be left out of `wanted`.
std::string did_you_mean(std::string_view wanted, const std::vector<std::string>& names);

}  // namespace veneer
