// The words of a Dockerfile instruction: quotes, escapes, variables.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace veneer {

inline constexpr std::string_view kWhite = " \t\r\n";

// What a variable stands for; nothing if it is not set.
using Variables = std::function<std::optional<std::string>(std::string_view name)>;

// One word with its quotes taken off and variables put in: '...' is literal; in "..." a backslash
// escapes ", $ and itself; outside it escapes anything. ${x:-word} is `word` if x is unset or
// empty, ${x:+word} if it is neither. Throws invalid_argument for what does not end, and for other
// modifiers.
std::string expand_word(std::string_view text, const Variables& variables);

// Split at white space that is not quoted or escaped; quotes stay. Throws invalid_argument for a
// quote that does not end.
std::vector<std::string> split_words(std::string_view text);

}  // namespace veneer
