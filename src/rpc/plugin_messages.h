// The JSON of Docker's graph-driver plugin protocol (moby daemon/graphdriver/{proxy,plugin}.go).
//
// Keys match exactly; those that are not known are ignored; null is the same as absent. Text that
// is no UTF-8, a path above all, is answered with U+FFFD in its place, as Go itself does.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "graphdriver/driver.h"

namespace veneer {

struct PluginCall {
  std::string id;
  std::string parent;
  std::string mount_label;
  std::map<std::string, std::string> storage_options;
};

struct PluginInit {
  std::string home;
  std::vector<std::string> options;
  IdMaps id_maps;
};

// An empty text is the same as "{}". invalid_argument for what is not JSON or of another shape.
PluginCall parse_plugin_call(std::string_view text);
PluginInit parse_plugin_init(std::string_view text);

// Answers, each a JSON text.
namespace plugin_answer {
std::string done();
std::string error(const std::string& message);
std::string implements();
std::string path(const std::string& path);
std::string exists(bool exists);
std::string size(uint64_t size_bytes);
std::string status(const std::vector<std::pair<std::string, std::string>>& status);
std::string metadata(const std::map<std::string, std::string>& metadata);
std::string capabilities(const Capabilities& capabilities);
std::string changes(const std::vector<Change>& changes);
}  // namespace plugin_answer

}  // namespace veneer
