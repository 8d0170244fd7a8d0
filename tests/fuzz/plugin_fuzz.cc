// Any bytes as the JSON of a graph-driver call: an Error, or values that keep the rules of their
// types. What they say is written into an answer that can be read again.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "rpc/plugin_messages.h"

namespace {

void check_call(std::string_view text) {
  try {
    const veneer::PluginCall call = veneer::parse_plugin_call(text);
    const std::string answer = veneer::plugin_answer::error(call.id + call.parent);
    VENEER_CHECK(answer.ends_with("\n") && answer.find('\n') == answer.size() - 1);
    (void)veneer::parse_plugin_call(answer);
    (void)veneer::plugin_answer::metadata(call.storage_options);
  } catch (const veneer::Error& error) {
    VENEER_CHECK(error.code() == veneer::Code::invalid_argument);
  }
}

void check_init(std::string_view text) {
  try {
    const veneer::PluginInit init = veneer::parse_plugin_init(text);
    for (const veneer::IdMap* const map : {&init.id_maps.uids, &init.id_maps.gids})
      for (const veneer::IdRange& range : map->ranges())
        VENEER_CHECK(map->to_container(map->to_host(range.container)) == range.container);
  } catch (const veneer::Error& error) {
    VENEER_CHECK(error.code() == veneer::Code::invalid_argument);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check_call(text);
  check_init(text);
  return 0;
}
