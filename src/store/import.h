// Layer blobs into a store: path (a) of the design.
//
//   FdSource -> VerifyingSource (blob digest) -> decompress -> Prefetch
//     -> layer.tar
//     -> HashingSource (DiffID) -> tar::Reader -> LayerTree -> index -> publish
//
// The layers of a chain are read side by side, each into a staging directory of its own; what
// depends on lower layers is settled in order afterwards (layer/pack.h). Nothing is visible before
// publish(), which is part of the caller's transaction.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "store/store.h"
#include "stream/stream.h"

namespace veneer {

// The variant of a layer with hard links to files of lower layers that nobody knows yet: an empty
// directory, in the place of what it would be over no layer at all, where such links are broken.
inline constexpr std::string_view kUnsettledTree = "fs.0000000000000000";

struct LayerBlob {
  std::optional<Digest> diff_id;  // verified; must be there for a layer to be found in the store
  std::optional<Digest> blob_digest;  // verified too
  std::optional<uint64_t> blob_size;
  bool needs_end_marker = false;  // of the tar: without it, it may be a part of one
  // Called on another thread than the constructor's, at most once; its bytes may be compressed.
  std::function<std::unique_ptr<Source>()> open;
  // In place of `open`: writes the layer, uncompressed; called in the same way.
  std::function<void(Sink&)> write;
  // The layers below come later: links into them are no error, the variant is kUnsettledTree then.
  // For a single layer over nothing.
  bool is_alone = false;
};

// Called from several threads.
class ImportProgress {
 public:
  virtual ~ImportProgress() = default;
  virtual void begin(size_t layer) = 0;
  virtual void add(size_t layer, uint64_t blob_bytes) = 0;
  virtual void exists(size_t layer) = 0;
  virtual void done(size_t layer) = 0;
};

class Import {
 public:
  // `parent` is the committed snapshot under the first of `layers` (lowest first).
  Import(Store& store, std::optional<int64_t> parent, std::vector<LayerBlob> layers,
         ImportProgress* progress = nullptr);
  ~Import();

  // Reads, verifies, indexes and syncs the layers that the store does not have. Errors name the
  // layer ("layer 2 (sha256:0123...)"), entry and offset; nothing remains of any of them.
  void stage();

  // The same in two steps, for a layer that is read before it is known what it lies over: all that
  // needs nothing from below (the parent must be none), and the rest. For a single layer. After an
  // error of either it can only be destroyed, with all that was staged.
  void stage_ahead();
  void put_over(std::optional<int64_t> parent, bool is_alone);

  // How long a layer took, in seconds: nothing for one that the store had.
  struct Times {
    double read = 0;    // with decompression, verification and the writing of the tar
    double settle = 0;  // its index, or tree of files; and the syncs
  };
  struct Layer {
    Digest diff_id;
    uint64_t file_bytes = 0;
    bool existed = false;
    Times times = {};
    int64_t variant = 0;  // set by publish()
  };
  // Moves what was staged into place and adds its rows. False, with nothing done, if a layer that
  // the store had when stage() ran is not there any more: stage() again. Where another process has
  // added a layer meanwhile, that one is used.
  bool publish(Meta::Transaction& transaction);
  const std::vector<Layer>& layers() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What publish() set Layer::variant to. Throws corrupt if it is not there.
VariantRecord published_variant(Meta::Transaction& transaction, const Import::Layer& layer);

// Adds committed snapshots named by ChainID over none, each with one of the published layers, where
// `space` does not have them; returns the topmost. None for no layers.
std::optional<int64_t> add_chain(Meta::Transaction& transaction, std::string_view space,
                                 const std::vector<Import::Layer>& layers);

}  // namespace veneer
