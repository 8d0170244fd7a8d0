// A layer in directory form compared with its tar. For store/check.
#pragma once

#include "layer/lower.h"
#include "layer/tree.h"

namespace veneer {

// Throws corrupt, which names the first file that is not as expand_layer() makes it of `tree` and
// `tar`: its kind, attributes, content or links. `lower` has what hard links of the layer go to;
// nullptr if it has none.
void compare_tree(const LayerTree& tree, int tar, const LowerView* lower, int directory);

}  // namespace veneer
