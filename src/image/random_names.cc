#include "image/random_names.h"

#include <algorithm>
#include <random>

#include "base/at.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/limits.h"
#include "image/names.h"

namespace veneer {

namespace {

constexpr std::string_view kAdjectives[] = {
    "amber",  "ancient", "airy",    "brave",  "bright", "brisk",  "calm",   "candid",  "clever",
    "cosy",   "crisp",   "curious", "daring", "deep",   "eager",  "early",  "earnest", "even",
    "fair",   "fleet",   "frosty",  "gentle", "glad",   "golden", "grand",  "green",   "hardy",
    "honest", "humble",  "jolly",   "keen",   "kind",   "lively", "lofty",  "loyal",   "lucky",
    "mellow", "merry",   "mild",    "misty",  "modest", "neat",   "nimble", "noble",   "patient",
    "plain",  "polite",  "proud",   "quick",  "quiet",  "ready",  "rosy",   "rustic",  "sage",
    "silver", "sincere", "snug",    "solid",  "steady", "sturdy", "sunny",  "swift",   "tidy",
    "true",   "velvet",  "vivid",   "warm",   "wise",   "witty",  "woven",  "young",   "zesty",
};
constexpr std::string_view kNouns[] = {
    "acorn",    "anchor",  "badger",  "beacon", "birch",  "bridge",  "brook",   "canyon", "cedar",
    "chestnut", "cloud",   "comet",   "coral",  "crane",  "delta",   "dolphin", "elm",    "ember",
    "falcon",   "fern",    "field",   "finch",  "fjord",  "forest",  "fox",     "garnet", "glacier",
    "grove",    "harbour", "hazel",   "heron",  "hill",   "island",  "ivy",     "lagoon", "lantern",
    "larch",    "lark",    "maple",   "marble", "meadow", "moor",    "oak",     "otter",  "pebble",
    "pine",     "plover",  "poplar",  "quarry", "quartz", "raven",   "reef",    "ridge",  "river",
    "robin",    "rowan",   "sparrow", "spruce", "summit", "swallow", "thistle", "tundra", "valley",
    "walnut",   "willow",  "wren",
};

}  // namespace

std::string random_container_name() {
  std::random_device random;
  return fmt::format("{}_{}", kAdjectives[random() % std::size(kAdjectives)],
                     kNouns[random() % std::size(kNouns)]);
}

std::string random_container_id() {
  std::string id;
  while (id.size() < 2 * Digest::kBytes) id += random_name();
  return id;
}

void check_container_name(std::string_view name) {
  const bool is_good =
      !name.empty() && is_alnum(name.front()) && std::ranges::all_of(name, [](char c) {
        return is_alnum(c) || c == '_' || c == '.' || c == '-';
      });
  if (!is_good)
    fail(Code::invalid_argument,
         "{:?} is not a container's name: a letter or digit, then letters, digits, \"_\", \".\" "
         "and \"-\"",
         name.substr(0, limits::kIdBytes));
  if (name.size() > limits::kIdBytes)
    fail(Code::invalid_argument, "the name is longer than {} characters", limits::kIdBytes);
}

}  // namespace veneer
