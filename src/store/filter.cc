#include "store/filter.h"

#include <optional>
#include <regex>

#include "base/error.h"
#include "base/limits.h"

namespace veneer {

namespace {

enum class Operator { present, equal, unequal, matches };

bool is_alpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_word(char c) {
  return is_alpha(c) || (c >= '0' && c <= '9') || c == '_';
}

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 99;
}

void append_utf8(std::string& text, uint32_t rune) {
  const auto put = [&](uint32_t byte) { text += static_cast<char>(byte); };
  if (rune < 0x80) return put(rune);
  if (rune < 0x800) {
    put(0xc0 | rune >> 6);
  } else if (rune < 0x10000) {
    put(0xe0 | rune >> 12);
    put(0x80 | (rune >> 6 & 0x3f));
  } else {
    put(0xf0 | rune >> 18);
    put(0x80 | (rune >> 12 & 0x3f));
    put(0x80 | (rune >> 6 & 0x3f));
  }
  put(0x80 | (rune & 0x3f));
}

// The text of one filter, from the front.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  // The next character that is no space; NUL at the end.
  char peek() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool is_at_end() { return peek() == '\0' && at_ >= text_.size(); }
  bool take(std::string_view token) {
    (void)peek();
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }

  std::string field() {
    const char first = peek();
    if (first == '"' || first == '\'') return quoted();
    if (!is_alpha(first)) refuse("a field is expected");
    return bare([](char c) { return is_word(c); });
  }

  // Regular expressions may stand between slashes or bars too, without escapes but of these.
  std::string value(bool is_pattern) {
    const char first = peek();
    if (first == '"' || first == '\'') return quoted();
    if (first == '/' || first == '|') {
      if (is_pattern) return quoted();
      refuse("a value cannot begin with that quote");
    }
    std::string text = bare([](char c) { return c != ',' && !is_space(c); });
    if (text.empty()) refuse("a value is expected");
    return text;
  }

  [[noreturn]] void refuse(std::string_view why) const {
    fail(Code::invalid_argument, "filter \"{}\": {} at offset {}", text_, why, at_);
  }

 private:
  template <typename IsPart>
  std::string bare(IsPart is_part) {
    const size_t begin = at_;
    while (at_ < text_.size() && is_part(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::string quoted() {
    const char quote = text_[at_++];
    std::string text;
    for (;;) {
      if (at_ >= text_.size()) refuse("a quote is not closed");
      const char c = text_[at_++];
      if (c == quote) return text;
      if (c == '\n') refuse("a line ends inside quotes");
      if (c != '\\')
        text += c;
      else
        escape(quote, text);
    }
  }

  // What follows a backslash, as in Go's string literals.
  void escape(char quote, std::string& text) {
    if (at_ >= text_.size()) refuse("a quote is not closed");
    const char c = text_[at_++];
    if (quote == '/' || quote == '|') {
      if (c != quote) text += '\\';
      text += c;
      return;
    }
    static constexpr std::string_view kLetters = "abfnrtv\\\"'";
    static constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\\"'";
    if (const size_t index = kLetters.find(c); index != std::string_view::npos) {
      if ((c == '"' || c == '\'') && c != quote) refuse("an escape that strings do not have");
      text += kMeanings[index];
    } else if (c == 'x') {
      text += static_cast<char>(number(2, 16));
    } else if (c == 'u' || c == 'U') {
      const uint32_t rune = number(c == 'u' ? 4 : 8, 16);
      if (rune > 0x10ffff || (rune >= 0xd800 && rune < 0xe000)) refuse("no such character");
      append_utf8(text, rune);
    } else if (digit_of(c) < 8) {
      --at_;
      const uint32_t byte = number(3, 8);
      if (byte > 0xff) refuse("an octal escape over 255");
      text += static_cast<char>(byte);
    } else {
      refuse("an escape that strings do not have");
    }
  }

  uint32_t number(size_t digits, int base) {
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i, ++at_) {
      const int digit = at_ < text_.size() ? digit_of(text_[at_]) : 99;
      if (digit >= base) refuse("a digit is expected");
      value = value * static_cast<uint32_t>(base) + static_cast<uint32_t>(digit);
    }
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// Without back-references and in polynomial time, whatever the pattern.
std::regex compile(const Scanner& scanner, const std::string& pattern) {
  if (pattern.size() > limits::kFilterPatternBytes)
    fail(Code::resource_exhausted, "a regular expression of {} bytes; {} are allowed",
         pattern.size(), limits::kFilterPatternBytes);
  try {
    return std::regex(pattern, std::regex::ECMAScript | std::regex_constants::__polynomial);
  } catch (const std::regex_error& error) {
    scanner.refuse(fmt::format("not a regular expression ({})", error.what()));
  }
}

}  // namespace

struct SnapshotFilter::Term {
  std::string field;
  std::string label;  // of "labels"
  Operator comparison = Operator::present;
  std::string value;
  std::optional<std::regex> pattern;

  // "name", "labels.a.b", ...: a label's key may have dots.
  void read_field(Scanner& scanner) {
    field = scanner.field();
    for (bool is_first = true; scanner.take("."); is_first = false) {
      if (!is_first) label += '.';
      label += scanner.field();
    }
    // No other field has parts.
    if (field != "labels" && !label.empty()) field.clear();
  }

  explicit Term(Scanner& scanner) {
    read_field(scanner);
    if (scanner.is_at_end() || scanner.peek() == ',') return;
    if (scanner.take("==")) {
      comparison = Operator::equal;
    } else if (scanner.take("!=")) {
      comparison = Operator::unequal;
    } else if (scanner.take("~=")) {
      comparison = Operator::matches;
    } else {
      scanner.refuse("an operator (==, != or ~=) is expected");
    }
    value = scanner.value(comparison == Operator::matches);
    if (comparison == Operator::matches) pattern = compile(scanner, value);
  }

  std::optional<std::string_view> find(const SnapshotInfo& info) const {
    if (field == "name") return info.name;
    if (field == "parent") return info.parent;
    if (field == "kind") return to_string(info.kind);
    if (field != "labels") return std::nullopt;
    const auto found = info.labels.find(label);
    if (found == info.labels.end()) return std::nullopt;
    return found->second;
  }

  // What is not there is "" to all but the first two.
  bool matches(const SnapshotInfo& info) const {
    const std::optional<std::string_view> has = find(info);
    const std::string_view text = has.value_or("");
    switch (comparison) {
      case Operator::present:
        return has.has_value();
      case Operator::equal:
        return has == value;
      case Operator::unequal:
        return text != value;
      case Operator::matches:
        return std::regex_search(text.begin(), text.end(), *pattern);
    }
    return false;
  }
};

SnapshotFilter::SnapshotFilter(const std::vector<std::string>& filters) {
  for (const std::string& text : filters) {
    if (text.size() > limits::kFilterBytes)
      fail(Code::resource_exhausted, "a filter of {} bytes; {} are allowed", text.size(),
           limits::kFilterBytes);
    std::vector<Term>& terms = filters_.emplace_back();
    if (text.empty()) continue;  // takes everything
    Scanner scanner(text);
    do {
      terms.emplace_back(scanner);
    } while (scanner.take(","));
    if (!scanner.is_at_end()) scanner.refuse("a comma is expected");
  }
}

SnapshotFilter::~SnapshotFilter() = default;

bool SnapshotFilter::matches(const SnapshotInfo& info) const {
  if (filters_.empty()) return true;
  for (const std::vector<Term>& terms : filters_) {
    bool all = true;
    for (const Term& term : terms) all = all && term.matches(info);
    if (all) return true;
  }
  return false;
}

}  // namespace veneer
