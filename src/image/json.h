// JSON from outside, read strictly (RFC 8259).
//
// Of duplicate keys the last one counts, as in Go's encoding/json, which wrote and reads most of
// these documents; unlike there, keys match exactly, not in any case. null is the same as absent,
// as Go writes it for empty slices and maps. The text must be UTF-8.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace veneer {

// One value. The getters that take a key want this to be an object; all of them throw corrupt, and
// name the key, when a value is missing (maybe_ ones return nothing) or of another type.
class Json {
 public:
  struct Member;
  using Array = std::vector<Json>;
  using Object = std::vector<Member>;
  struct Other {};  // a number that is no uint64_t, which nothing here wants
  using Value = std::variant<std::monostate, bool, uint64_t, Other, std::string, Array, Object>;

  // Throws corrupt, with the offset, for what is not one JSON text; resource_exhausted beyond
  // kJsonBytes, kJsonDepth and kJsonValues.
  static Json parse(std::string_view text);

  bool has(std::string_view key) const { return find(key) != nullptr; }
  const std::string& string(std::string_view key) const;
  std::optional<std::string> maybe_string(std::string_view key) const;
  uint64_t number(std::string_view key) const;
  const Json& object(std::string_view key) const;
  const Json* maybe_object(std::string_view key) const;
  // The array of the key; an empty one if it is absent.
  const Array& array(std::string_view key) const;
  std::vector<std::string> strings(std::string_view key) const;

  // This value itself, which must be an array.
  const Array& elements() const;

 private:
  friend class JsonBuilder;

  // Nothing if the key is absent or null.
  const Json* find(std::string_view key) const;
  template <typename Type>
  const Type* maybe(std::string_view key, std::string_view type) const;
  std::string_view type() const;

  Value value_;
};

struct Json::Member {
  std::string key;
  Json value;
};

// JSON to be written: made from nothing, or a document to be changed, of which everything stays as
// it was, in its order, but what is set. The same calls give the same bytes.
class JsonTree {
 public:
  // Keys from the top down. Objects on the way are made if they are absent or null; corrupt, naming
  // the key, if something else is there.
  using Path = std::initializer_list<std::string_view>;

  JsonTree();                                         // an empty object
  JsonTree(std::string_view text);                    // NOLINT: implicit by design
  JsonTree(const char* text);                         // NOLINT: implicit by design
  JsonTree(const std::string& text);                  // NOLINT: implicit by design
  JsonTree(uint64_t number);                          // NOLINT: implicit by design
  JsonTree(bool value);                               // NOLINT: implicit by design
  JsonTree(const std::vector<std::string>& strings);  // NOLINT: implicit by design
  JsonTree(JsonTree&&) noexcept;
  ~JsonTree();
  static JsonTree array();
  // As Json::parse().
  static JsonTree parse(std::string_view text);

  void set(Path path, JsonTree value);
  // To the array there, which is made if it is absent or null. An empty path is this value.
  void append(Path path, JsonTree value);
  void remove(Path path);

  // Without white space. invalid_argument for text that is not UTF-8.
  std::string text() const;

 private:
  struct Value;
  explicit JsonTree(std::unique_ptr<Value> value);
  std::unique_ptr<Value> value_;
};

}  // namespace veneer
