// A layer's files, made in two steps: what the tar alone tells, then what the layers below decide.
//
// Staging takes all the time, and layers can be staged side by side. Settling is short, and goes
// from the lowest layer up: a layer needs those below it settled, and mounted. One whose tree does
// not depend on lower layers can be settled as soon as it is staged.
//
//   StagedLayer staged = stage_layer(source, directory, {});
//   SettledLayer settled = settle_layer(staged, directory, &lower, {});
//   sync_fd(directory);  // names are the caller's to make durable
//
// The names in `directory` are those of docs/FORMAT.md. After an error it is the caller who removes
// what is there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/digest.h"
#include "base/fd.h"
#include "layer/expand.h"
#include "layer/lower.h"
#include "layer/pack.h"
#include "layer/tree.h"
#include "stream/stream.h"

namespace veneer {

// In a layer's directory.
inline constexpr PathView kLayerTarName = "layer.tar";
inline constexpr PathView kLayerTreeName = "fs";

struct StagedLayer {
  UniqueFd tar;  // "layer.tar", whole
  LayerTarInfo info;
  std::unique_ptr<LayerTree> tree;  // built without lower layers
};

struct StageOptions {
  bool is_durable = true;  // syncs the data of the tar
};

// Copies the uncompressed stream `from` to the new file "layer.tar" of `directory`, and reads it.
// Throws what `from` and read_layer_tree() do.
StagedLayer stage_layer(Source& from, int directory, StageOptions options);

enum class LayerForm { packed, directory };

struct SettleOptions {
  LayerForm form = LayerForm::packed;
  bool is_durable = true;  // syncs what is written
  ExpandOptions expand = {};
};

struct SettledLayer {
  // Directory form may be what a layer has though the packed one was asked for: if it has hard
  // links to files of lower layers.
  LayerForm form = LayerForm::packed;
  // Of the packed form. The index is the one that goes with these lower layers; no other is
  // written.
  std::string index_name;
  Digest index_digest;
  uint64_t file_bytes = 0;  // of all regular files in the tar
  // What else the result depends on: all that the lower layers contributed, and the content of
  // their files that hard links go to.
  std::optional<Digest> lower_digest = {};
  bool has_lower_links = false;
};

// Writes the index, or "fs", to `directory`. `lower` is what lies below, also if that is nothing;
// it may be nullptr if staged.tree->depends_on_lower() is false, and is not looked at then. The
// staged tree is of no use afterwards. Throws what read_layer_tree() and expand_layer() do, and
// EEXIST if the index or "fs" is there.
SettledLayer settle_layer(StagedLayer& staged, int directory, const LowerView* lower,
                          const SettleOptions& options);

}  // namespace veneer
