#include "image/json.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/limits.h"

namespace veneer {

namespace {

template <typename Type>
const Type& required(const Type* value, std::string_view key) {
  if (value == nullptr) fail(Code::corrupt, "\"{}\" is missing", key);
  return *value;
}

}  // namespace

// Builds a Json from the parser's events, and stops it at the limits. The parser keeps its own
// stack on the heap, so depth costs no stack frames until the value is destroyed.
class JsonBuilder {
 public:
  Json take() { return std::move(root_); }

  bool null() { return add({}); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(int64_t) { return add(Json::Other{}); }
  bool number_unsigned(uint64_t value) { return add(value); }
  bool number_float(double, const std::string&) { return add(Json::Other{}); }
  bool string(std::string& value) { return add(std::move(value)); }
  bool binary(std::vector<std::uint8_t>&) { return false; }
  bool start_object(size_t) { return open(Json::Object{}); }
  bool start_array(size_t) { return open(Json::Array{}); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& key) {
    std::get<Json::Object>(open_.back()->value_).push_back({.key = std::move(key), .value = {}});
    return true;
  }
  bool parse_error(size_t position, const std::string&, const std::exception&) {
    fail(Code::corrupt, "not valid JSON at byte {}", position);
  }

 private:
  bool add(Json::Value value) {
    place(std::move(value));
    return true;
  }
  bool open(Json::Value value) {
    if (open_.size() == limits::kJsonDepth)
      fail(Code::resource_exhausted, "JSON nested deeper than {}", limits::kJsonDepth);
    open_.push_back(place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  // Where the value is now. It stays there while it is open: its parent gets no other until then.
  Json* place(Json::Value value) {
    if (++count_ > limits::kJsonValues)
      fail(Code::resource_exhausted, "JSON of more than {} values", limits::kJsonValues);
    Json* to = &root_;
    if (!open_.empty()) {
      if (auto* array = std::get_if<Json::Array>(&open_.back()->value_))
        to = &array->emplace_back();
      else
        to = &std::get<Json::Object>(open_.back()->value_).back().value;
    }
    to->value_ = std::move(value);
    return to;
  }

  Json root_;
  std::vector<Json*> open_;
  size_t count_ = 0;
};

Json Json::parse(std::string_view text) {
  if (text.size() > limits::kJsonBytes)
    fail(Code::resource_exhausted, "JSON of more than {} bytes", limits::kJsonBytes);
  JsonBuilder builder;
  VENEER_CHECK(nlohmann::json::sax_parse(text.begin(), text.end(), &builder));
  return builder.take();
}

std::string_view Json::type() const {
  static constexpr std::string_view kNames[] = {"null",     "a boolean", "a number", "a number",
                                                "a string", "an array",  "an object"};
  return kNames[value_.index()];
}

const Json* Json::find(std::string_view key) const {
  const auto* object = std::get_if<Object>(&value_);
  if (object == nullptr) fail(Code::corrupt, "{} where an object must be", type());
  for (auto member = object->rbegin(); member != object->rend(); ++member) {
    if (member->key != key) continue;
    return std::holds_alternative<std::monostate>(member->value.value_) ? nullptr : &member->value;
  }
  return nullptr;
}

template <typename Type>
const Type* Json::maybe(std::string_view key, std::string_view type) const {
  const Json* found = find(key);
  if (found == nullptr) return nullptr;
  const Type* value = std::get_if<Type>(&found->value_);
  if (value == nullptr) fail(Code::corrupt, "\"{}\" is {}, not {}", key, found->type(), type);
  return value;
}

const std::string& Json::string(std::string_view key) const {
  return required(maybe<std::string>(key, "a string"), key);
}

std::optional<std::string> Json::maybe_string(std::string_view key) const {
  const auto* value = maybe<std::string>(key, "a string");
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

uint64_t Json::number(std::string_view key) const {
  return required(maybe<uint64_t>(key, "a whole number"), key);
}

const Json* Json::maybe_object(std::string_view key) const {
  return maybe<Object>(key, "an object") != nullptr ? find(key) : nullptr;
}

const Json& Json::object(std::string_view key) const {
  return required(maybe_object(key), key);
}

const Json::Array& Json::array(std::string_view key) const {
  static const Array kNone;
  const Array* value = maybe<Array>(key, "an array");
  return value != nullptr ? *value : kNone;
}

std::vector<std::string> Json::strings(std::string_view key) const {
  std::vector<std::string> all;
  for (const Json& element : array(key)) {
    const auto* text = std::get_if<std::string>(&element.value_);
    if (text == nullptr) fail(Code::corrupt, "\"{}\" holds {}, not strings", key, element.type());
    all.push_back(*text);
  }
  return all;
}

const Json::Array& Json::elements() const {
  const auto* array = std::get_if<Array>(&value_);
  if (array == nullptr) fail(Code::corrupt, "{} where an array must be", type());
  return *array;
}

}  // namespace veneer
