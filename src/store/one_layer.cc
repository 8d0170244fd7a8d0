#include "store/one_layer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"

namespace veneer {

namespace {

class BorrowedSource final : public Source {
 public:
  explicit BorrowedSource(Source& from) : from_(from) {}
  Bytes next(Room room) override { return from_.next(room); }

 private:
  Source& from_;
};

}  // namespace

LayerBlob blob_of(Source& tar) {
  LayerBlob blob;
  blob.open = [&tar] { return std::make_unique<BorrowedSource>(tar); };
  return blob;
}

OneLayer::OneLayer(Store& store, std::optional<int64_t> parent, LayerBlob blob)
    : import_(store, parent, {std::move(blob)}) {
  import_.stage();
}

OneLayer::OneLayer(Ahead, Store& store, LayerBlob blob)
    : import_(store, std::nullopt, {std::move(blob)}) {
  import_.stage_ahead();
}

std::optional<VariantRecord> OneLayer::publish(Meta::Transaction& transaction) {
  if (!import_.publish(transaction)) return std::nullopt;
  const auto record = transaction.maybe_layer(layer().diff_id);
  VENEER_CHECK(record.has_value());
  const std::vector<VariantRecord> variants = transaction.list_variants(record->id);
  const auto variant = std::ranges::find(variants, layer().variant, &VariantRecord::id);
  VENEER_CHECK(variant != variants.end());
  return *variant;
}

}  // namespace veneer
