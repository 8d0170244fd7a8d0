#include "bin/json_out.h"

#include <fmt/format.h>

#include <iterator>

namespace veneer {

size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t at) {
    return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U;
  };
  const auto is_between = [&](size_t at, unsigned low, unsigned high) {
    return byte(at) >= low && byte(at) <= high;
  };
  const auto tail = [&](size_t at) { return is_between(at, 0x80, 0xbf); };
  if (text.empty()) return 0;
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return tail(1) ? 2 : 0;
  // The second byte's range shuts out overlong forms, surrogates and what is beyond U+10FFFF.
  if (first >= 0xe0 && first <= 0xef) {
    const unsigned low = first == 0xe0 ? 0xa0 : 0x80;
    const unsigned high = first == 0xed ? 0x9f : 0xbf;
    return is_between(1, low, high) && tail(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    const unsigned low = first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xf4 ? 0x8f : 0xbf;
    return is_between(1, low, high) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

void JsonOut::separate() {
  if (comma_) text_ += ',';
  comma_ = true;
}

JsonOut& JsonOut::open(char bracket) {
  separate();
  text_ += bracket;
  comma_ = false;
  return *this;
}

JsonOut& JsonOut::close(char bracket) {
  text_ += bracket;
  comma_ = true;
  return *this;
}

JsonOut& JsonOut::key(std::string_view name) {
  separate();
  quote(name);
  text_ += ':';
  comma_ = false;
  return *this;
}

JsonOut& JsonOut::string(std::string_view text) {
  separate();
  quote(text);
  return *this;
}

JsonOut& JsonOut::number(uint64_t value) {
  separate();
  fmt::format_to(std::back_inserter(text_), "{}", value);
  return *this;
}

JsonOut& JsonOut::boolean(bool value) {
  separate();
  text_ += value ? "true" : "false";
  return *this;
}

JsonOut& JsonOut::null() {
  separate();
  text_ += "null";
  return *this;
}

JsonOut& JsonOut::raw(std::string_view json) {
  separate();
  text_ += json;
  return *this;
}

void JsonOut::quote(std::string_view text) {
  text_ += '"';
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const char first = text.front();
    if (length == 0) {
      text_ += "\xef\xbf\xbd";
    } else if (first == '"' || first == '\\') {
      text_ += '\\';
      text_ += first;
    } else if (length == 1 && (static_cast<unsigned char>(first) < 0x20 || first == 0x7f)) {
      fmt::format_to(std::back_inserter(text_), "\\u{:04x}", static_cast<unsigned>(first));
    } else {
      text_ += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  text_ += '"';
}

}  // namespace veneer
