// What store/check found, mended as far as it can be.
//
// Everything is made and verified in staging, and takes its place by one rename, while no other
// process writes to the database: a crash leaves the damage, or what mends it. Containers that are
// mounted keep the mounts that they have; the next mount has what was mended.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "store/check.h"
#include "stream/stream.h"

namespace veneer {

// Where good bytes may be had. What it gives is verified.
class RepairSource {
 public:
  virtual ~RepairSource() = default;
  // The layer's tar, perhaps compressed; nullptr if it is not here.
  virtual std::unique_ptr<Source> maybe_layer(const Digest& diff_id) = 0;
  virtual std::optional<std::string> maybe_blob(const Digest& digest) = 0;
};

struct RepairOptions {
  bool is_dry_run = false;         // nothing changes; all else is the same
  RepairSource* source = nullptr;  // borrowed
  // The DiffIDs that the configuration of an image names, lowest first; throws corrupt for what is
  // none. Without it, lost rows stay lost.
  std::function<std::vector<Digest>(const std::string& config)> parse_layers = {};
  // Called with each action, one line, when it is done (or would be).
  std::function<void(const std::string& action)> report = {};
  CheckOptions check = {};  // for looking again at what was damaged
};

// Repairs what can be repaired and checks that again. Returns what is left, with the reason where a
// repair failed. Throws what check_store() does; what fails for one damage does not keep others
// from being repaired. In a dry run: what no action would be for.
std::vector<Damage> repair_store(Store& store, std::vector<Damage> damages,
                                 const RepairOptions& options);

}  // namespace veneer
