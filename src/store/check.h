// A store compared with itself: what the database says, what lies on disk, and what the digests
// demand.
//
// Reads only (it mounts lower layers where an index depends on them). Rows are read as one state of
// the database, and files after that, while others go on: what was removed or added meanwhile is
// looked at again before it is called damage. What is in staging/ and trash/ is nobody's. Files are
// read from the disk, whatever the page cache has of them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "store/import.h"
#include "store/store.h"

namespace veneer {

// In the order in which repairs build on each other.
enum class DamageKind {
  database,   // SQLite's own structures
  reference,  // a row whose partner is not there
  row,        // one that says what the files do not
  layer,      // its directory, or all of its variants
  tar,
  index,
  tree,  // a layer in directory form
  snapshot,
  blob,
  orphan,  // a file or directory without a row
};
// "database", ..., "orphan".
std::string_view to_string(DamageKind kind);

// How repair_store() (store/repair.h) may mend it.
enum class Remedy {
  none,
  rebuild,         // from the layer's tar
  other_image,     // from another file that has the bytes
  discard,         // moved to trash
  remove_row,      // which nothing refers to
  correct_row,     // from the layer's tar
  relink,          // lost rows, from the configuration of an image and its layers
  make_directory,  // which was empty
};
std::string_view to_string(Remedy remedy);

struct Damage {
  DamageKind kind = DamageKind::database;
  Remedy remedy = Remedy::none;
  std::string what;  // "layer sha256:<hex>", "snapshot local/<key>": in words
  std::string path;  // what is damaged on disk, below the root; "" for rows alone
  std::string why;
  // Who needs it: full names, or the hex id of an image without a name; sorted.
  std::vector<std::string> images;
  std::vector<std::string> containers;
  // What it is about, as far as it is about one: the layer or blob; rows.
  std::optional<Digest> digest = {};
  int64_t layer = 0;
  int64_t variant = 0;
  int64_t snapshot = 0;
  int64_t image = 0;
  uint64_t file_bytes = 0;              // of a wrong row: what is right
  std::vector<int64_t> snapshots = {};  // of a lost row: those that cannot be read without it
};

struct CheckOptions {
  // Leaves out hashing and making indexes: names, sizes and rows only.
  bool is_fast = false;
  // Whoever removes something renames it right after its commit, so an orphan is looked at again,
  // for so long. Not when nobody else has the store.
  std::chrono::milliseconds orphan_patience{900};
  // Only these layers; all others are taken for good.
  std::optional<std::set<Digest>> layers = {};
  // Called once, before layers are hashed, with the layers in the order of their numbers in the
  // ImportProgress that it returns (borrowed); bytes are those of the tars.
  std::function<ImportProgress*(const std::vector<LayerRecord>& layers)> progress = {};
};

struct CheckResult {
  std::vector<Damage> damages;  // by kind
  size_t layers = 0;
  size_t snapshots = 0;
  size_t blobs = 0;
  uint64_t hashed_bytes = 0;  // of tars
};

// Throws only for what keeps it from looking (permissions, descriptors, memory).
CheckResult check_store(Store& store, const CheckOptions& options);

}  // namespace veneer
