// One layer compared with its rows and its DiffID. For store/check.
#pragma once

#include <functional>
#include <map>
#include <stop_token>
#include <vector>

#include "store/check.h"
#include "store/check_parts.h"

namespace veneer {

struct LayerToCheck {
  LayerRecord record;
  std::vector<VariantRecord> variants;
  std::map<int64_t, Parents> parents;  // of snapshots, by variant; those without are not used

  bool is_used() const { return !parents.empty(); }
};

struct LayerCheckOptions {
  bool is_fast = false;
  std::stop_token stop;
  std::function<void(size_t)> read;  // bytes of the tar
};

// Throws unavailable when it is told to stop.
std::vector<Damage> check_layer(Store& store, const LayerToCheck& layer,
                                const LayerCheckOptions& options);

}  // namespace veneer
