// What store/check and store/repair share.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "layer/lower.h"
#include "layer/tree.h"
#include "store/check.h"

namespace veneer {

// True if the database knows what is at `path` below the root: a snapshot, a layer, a file in the
// directory of a layer, a blob.
bool has_row(Meta::Transaction& transaction, std::string_view path);

// The variant with this id of this layer.
std::optional<VariantRecord> maybe_variant_at(Meta::Transaction& transaction, int64_t layer,
                                              int64_t variant);

// What snapshots with this variant lie over: ids of their parents, each once.
using Parents = std::vector<std::optional<int64_t>>;
Parents parents_of(Meta::Transaction& transaction, int64_t variant);

// The tree of a tar over lower layers, made in the steps of settle_layer().
std::unique_ptr<LayerTree> tree_over(int tar, uint64_t size_bytes, const LowerView& lower);

// False if the variant was made over other lower layers than this tree of its tar.
bool is_named_for(const VariantRecord& variant, const LayerTree& tree);

// The number that `name` is, or nothing: store/recover.h leaves other names alone, too.
std::optional<int64_t> maybe_number(std::string_view name);

}  // namespace veneer
