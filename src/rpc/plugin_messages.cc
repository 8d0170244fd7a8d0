#include "rpc/plugin_messages.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace veneer {

namespace {

using Json = nlohmann::json;

Json parse_object(std::string_view text) {
  if (text.find_first_not_of(" \t\r\n") == text.npos) return Json::object();
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) fail(Code::invalid_argument, "the request is not JSON");
  if (!json.is_object()) fail(Code::invalid_argument, "the request is not a JSON object");
  return json;
}

// Nothing for a key that is absent or null.
const Json* find(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const std::string& text_of(const Json& value, const char* key) {
  const auto* text = value.get_ptr<const std::string*>();
  if (text == nullptr) fail(Code::invalid_argument, "{}: a string is expected", key);
  return *text;
}

std::string string(const Json& object, const char* key) {
  const Json* const value = find(object, key);
  return value == nullptr ? "" : text_of(*value, key);
}

uint32_t number(const Json& object, const char* key) {
  const Json* const value = find(object, key);
  if (value == nullptr) return 0;
  const auto* number = value->get_ptr<const Json::number_unsigned_t*>();
  if (number == nullptr || *number > UINT32_MAX)
    fail(Code::invalid_argument, "{}: an id or a number of ids is expected", key);
  return static_cast<uint32_t>(*number);
}

// Of an array; none for a key that is absent.
const Json& elements(const Json& object, const char* key) {
  static const Json kNone = Json::array();
  const Json* const value = find(object, key);
  if (value == nullptr) return kNone;
  if (!value->is_array()) fail(Code::invalid_argument, "{}: an array is expected", key);
  return *value;
}

IdMap id_map(const Json& object, const char* key) {
  std::vector<IdRange> ranges;
  for (const Json& range : elements(object, key)) {
    if (!range.is_object()) fail(Code::invalid_argument, "{}: objects are expected", key);
    ranges.push_back({.container = number(range, "container_id"),
                      .host = number(range, "host_id"),
                      .size = number(range, "size")});
  }
  return ranges.empty() ? IdMap() : IdMap(std::move(ranges));
}

std::string to_text(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

int kind_of(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::modify:
      return 0;
    case ChangeKind::add:
      return 1;
    case ChangeKind::remove:
      return 2;
  }
  return 0;
}

}  // namespace

PluginCall parse_plugin_call(std::string_view text) {
  const Json json = parse_object(text);
  PluginCall call{.id = string(json, "ID"),
                  .parent = string(json, "Parent"),
                  .mount_label = string(json, "MountLabel"),
                  .storage_options = {}};
  const Json* const options = find(json, "StorageOpt");
  if (options == nullptr) return call;
  if (!options->is_object()) fail(Code::invalid_argument, "StorageOpt: an object is expected");
  for (const auto& [key, value] : options->items())
    call.storage_options[key] = text_of(value, "StorageOpt");
  return call;
}

PluginInit parse_plugin_init(std::string_view text) {
  const Json json = parse_object(text);
  PluginInit init{.home = string(json, "Home"),
                  .options = {},
                  .id_maps = {.uids = id_map(json, "UIDMaps"), .gids = id_map(json, "GIDMaps")}};
  for (const Json& option : elements(json, "Opts")) init.options.push_back(text_of(option, "Opts"));
  return init;
}

namespace plugin_answer {

std::string done() {
  return to_text(Json::object());
}

std::string error(const std::string& message) {
  return to_text({{"Err", message}});
}

std::string implements() {
  return to_text({{"Implements", Json::array({"GraphDriver"})}});
}

std::string path(const std::string& path) {
  return to_text({{"Dir", path}});
}

std::string exists(bool exists) {
  return to_text({{"Exists", exists}});
}

std::string size(uint64_t size_bytes) {
  return to_text({{"Size", size_bytes}});
}

std::string status(const std::vector<std::pair<std::string, std::string>>& status) {
  Json pairs = Json::array();
  for (const auto& [what, how] : status) pairs.push_back(Json::array({what, how}));
  return to_text({{"Status", std::move(pairs)}});
}

std::string metadata(const std::map<std::string, std::string>& metadata) {
  return to_text({{"Metadata", metadata}});
}

std::string capabilities(const Capabilities& capabilities) {
  return to_text(
      {{"Capabilities", {{"ReproducesExactDiffs", capabilities.reproduces_exact_diffs}}}});
}

std::string changes(const std::vector<Change>& changes) {
  Json list = Json::array();
  for (const Change& change : changes)
    list.push_back({{"Path", change.path}, {"Kind", kind_of(change.kind)}});
  return to_text({{"Changes", std::move(list)}});
}

}  // namespace plugin_answer

}  // namespace veneer
