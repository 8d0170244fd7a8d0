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

struct JsonTree::Value {
  nlohmann::ordered_json json;

  // The value at `path`; its last key may be new (and is null then).
  nlohmann::ordered_json& at(Path path) {
    nlohmann::ordered_json* found = &json;
    std::string_view above;
    for (const std::string_view key : path) {
      if (found->is_null()) *found = nlohmann::ordered_json::object();
      if (!found->is_object()) fail(Code::corrupt, "\"{}\" is not an object", above);
      found = &(*found)[std::string(key)];
      above = key;
    }
    return *found;
  }
};

JsonTree::JsonTree(std::unique_ptr<Value> value) : value_(std::move(value)) {}
JsonTree::JsonTree() : JsonTree(std::make_unique<Value>(nlohmann::ordered_json::object())) {}
JsonTree::JsonTree(std::string_view text) : JsonTree(std::make_unique<Value>(text)) {}
JsonTree::JsonTree(const char* text) : JsonTree(std::string_view(text)) {}
JsonTree::JsonTree(const std::string& text) : JsonTree(std::string_view(text)) {}
JsonTree::JsonTree(uint64_t number) : JsonTree(std::make_unique<Value>(number)) {}
JsonTree::JsonTree(bool value) : JsonTree(std::make_unique<Value>(value)) {}
JsonTree::JsonTree(const std::vector<std::string>& strings)
    : JsonTree(std::make_unique<Value>(strings)) {}
JsonTree::JsonTree(JsonTree&&) noexcept = default;
JsonTree::~JsonTree() = default;

JsonTree JsonTree::array() {
  return JsonTree(std::make_unique<Value>(nlohmann::ordered_json::array()));
}

JsonTree JsonTree::parse(std::string_view text) {
  (void)Json::parse(text);  // keeps the limits
  return JsonTree(std::make_unique<Value>(nlohmann::ordered_json::parse(text)));
}

void JsonTree::set(Path path, JsonTree value) {
  value_->at(path) = std::move(value.value_->json);
}

void JsonTree::append(Path path, JsonTree value) {
  nlohmann::ordered_json& to = value_->at(path);
  if (to.is_null()) to = nlohmann::ordered_json::array();
  if (!to.is_array())
    fail(Code::corrupt, "\"{}\" is not an array", path.size() > 0 ? path.end()[-1] : "");
  to.push_back(std::move(value.value_->json));
}

void JsonTree::remove(Path path) {
  nlohmann::ordered_json* found = &value_->json;
  for (size_t depth = 0; depth < path.size(); ++depth) {
    const std::string key(path.begin()[depth]);
    if (!found->is_object() || !found->contains(key)) return;
    if (depth + 1 == path.size()) {
      found->erase(key);
      return;
    }
    found = &(*found)[key];
  }
}

std::string JsonTree::text() const {
  try {
    return value_->json.dump();
  } catch (const nlohmann::json::exception&) {
    fail(Code::invalid_argument, "text that is not UTF-8 cannot be written as JSON");
  }
}

}  // namespace veneer
