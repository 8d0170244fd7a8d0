// Layers that the store has, under whatever name, for a client that is about to extract them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "store/store.h"

namespace veneer {

// Makes the layer that an extraction over `parent` asks for (rpc/extraction.h) a committed snapshot
// of `space`, if the store has it, and returns its name: as maybe_extracted() finds it later.
// containerd adopts it, or removes it as one that it does not know. Which layer it is follows from
// the ChainIDs of the two; a layer that is extracted without the ones below it is not looked for.
std::optional<std::string> maybe_add_known_layer(Store& store, std::string_view space,
                                                 std::string_view parent, const Labels& labels);

}  // namespace veneer
