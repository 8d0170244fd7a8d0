// JSON for --json, written in order.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace veneer {

// The length of the UTF-8 sequence (RFC 3629) that `text` begins with; 0 if it begins with none.
size_t utf8_length(std::string_view text);

// One JSON text (RFC 8259), valid for whatever strings it is given: bytes that are not UTF-8 become
// U+FFFD, one each. Commas and colons come by themselves; brackets are the caller's to balance.
class JsonOut {
 public:
  JsonOut& begin_object() { return open('{'); }
  JsonOut& end_object() { return close('}'); }
  JsonOut& begin_array() { return open('['); }
  JsonOut& end_array() { return close(']'); }
  JsonOut& key(std::string_view name);
  JsonOut& string(std::string_view text);
  JsonOut& number(uint64_t value);
  JsonOut& boolean(bool value);
  JsonOut& null();
  // A whole value that is JSON already.
  JsonOut& raw(std::string_view json);

  const std::string& text() const { return text_; }

 private:
  JsonOut& open(char bracket);
  JsonOut& close(char bracket);
  void separate();
  void quote(std::string_view text);

  std::string text_;
  bool comma_ = false;  // before the next value
};

}  // namespace veneer
