#include <algorithm>
#include <utility>

#include "base/error.h"
#include "image/documents.h"
#include "image/library.h"
#include "image/library_parts.h"

namespace veneer {

namespace {

// Counts an import's layers on from those below it.
class ShiftedProgress final : public ImportProgress {
 public:
  ShiftedProgress(ImportProgress* to, size_t first) : to_(to), first_(first) {
    for (size_t layer = 0; to_ != nullptr && layer < first_; ++layer) to_->exists(layer);
  }
  void begin(size_t layer) override {
    if (to_ != nullptr) to_->begin(first_ + layer);
  }
  void add(size_t layer, uint64_t blob_bytes) override {
    if (to_ != nullptr) to_->add(first_ + layer, blob_bytes);
  }
  void exists(size_t layer) override {
    if (to_ != nullptr) to_->exists(first_ + layer);
  }
  void done(size_t layer) override {
    if (to_ != nullptr) to_->done(first_ + layer);
  }

 private:
  ImportProgress* to_;
  size_t first_;
};

std::vector<LayerBlob> blobs_of(const ImageArchive& archive, size_t first) {
  std::vector<LayerBlob> blobs;
  const std::vector<ImageLayer>& layers = archive.manifest().layers;
  for (size_t index = first; index < layers.size(); ++index)
    blobs.push_back({.diff_id = layers[index].diff_id,
                     .blob_digest = layers[index].blob_digest,
                     .blob_size = layers[index].blob_size,
                     .open = [&archive, index] { return archive.open_layer(index); },
                     .write = {}});
  return blobs;
}

// An archive may have names that nobody else takes for one; those are as good as absent.
std::vector<ImageName> names_for(const ImageArchive& archive, const LoadOptions& options) {
  if (options.name) return {ImageName::parse(*options.name)};
  std::vector<ImageName> names;
  for (const std::string& text : archive.manifest().names)
    if (const auto name = ImageName::maybe_parse(text)) names.push_back(*name);
  return names;
}

}  // namespace

LoadedImage Library::load(const ImageArchive& archive, const LoadOptions& options) {
  const std::vector<ImageName> names = names_for(archive, options);
  const std::string& config = archive.manifest().config;
  std::vector<Digest> diff_ids;
  for (const ImageLayer& layer : archive.manifest().layers) diff_ids.push_back(layer.diff_id);
  const auto find_known = [&] {
    Meta::Transaction transaction = store_.meta().read();
    return find_chain(transaction, diff_ids);
  };
  // Again only if someone removed meanwhile what was there: there is less each time.
  for (;;) {
    const KnownChain known = find_known();
    ShiftedProgress progress(options.progress, known.layers.size());
    Import import(store_, known.top, blobs_of(archive, known.layers.size()), &progress);
    try {
      import.stage();
    } catch (const Error&) {
      if (find_known().top == known.top) throw;
      continue;
    }
    const NewImage image{.known = known, .import = import, .config = config, .names = names};
    if (auto loaded = maybe_add_image(store_, image)) return std::move(*loaded);
  }
}

}  // namespace veneer
