// One blob that becomes the content of one snapshot.
#pragma once

#include <optional>

#include "store/import.h"

namespace veneer {

// An uncompressed or compressed stream of which nothing is known; borrowed until it is staged.
LayerBlob blob_of(Source& tar);

// Stages at construction and publishes in the caller's transaction, as Import does for a chain.
class OneLayer {
 public:
  // Reads, verifies, indexes and syncs the layer, unless the store has it. `parent` is the
  // committed snapshot that it will lie over. Throws what Import::stage() does.
  OneLayer(Store& store, std::optional<int64_t> parent, LayerBlob blob);

  // The same before it is known what it will lie over: put_over() comes before all else then.
  struct Ahead {};
  OneLayer(Ahead, Store& store, LayerBlob blob);
  void put_over(std::optional<int64_t> parent, bool is_alone) {
    import_.put_over(parent, is_alone);
  }

  // What a snapshot with this content has as its variant. None, with nothing done, if the store had
  // the layer and has it no longer: stage() again.
  std::optional<VariantRecord> publish(Meta::Transaction& transaction);
  void stage() { import_.stage(); }

  const Import::Layer& layer() const { return import_.layers().front(); }

 private:
  Import import_;
};

}  // namespace veneer
