#include "bin/load.h"

#include <future>
#include <utility>

#include "base/error.h"
#include "stream/compress.h"
#include "stream/verified_prefetch.h"

namespace veneer {

namespace {

// 24 MiB: while a driver makes a layer of its parent's tree, and at the sync of large files, the
// decompression goes on.
constexpr size_t kChunksAhead = 96;

// The chain of an image's layers: while one becomes durable, the next is made over it.
class ChainLoader {
 public:
  ChainLoader(const ImageArchive& image, Driver& driver, ImportProgress& progress)
      : image_(image), driver_(driver), progress_(progress) {}

  std::vector<LoadedLayer> load() {
    const std::vector<ImageLayer>& layers = image_.manifest().layers;
    std::optional<Digest> chain;
    for (size_t index = 0; index < layers.size(); ++index) {
      chain = chain_id(chain, layers[index].diff_id);
      loaded_.push_back({.id = chain->hex(), .diff_id = layers[index].diff_id, .size_bytes = {}});
      std::unique_ptr<NewLayer> made = make(index);
      finish_commit();
      below_ = std::move(made);
      if (below_) begin_commit(index);
    }
    finish_commit();
    return std::move(loaded_);
  }

 private:
  // Nothing if the layer is there.
  std::unique_ptr<NewLayer> make(size_t index) {
    if (driver_.exists(loaded_[index].id)) {
      progress_.exists(index);
      return nullptr;
    }
    progress_.begin(index);
    std::unique_ptr<NewLayer> made;
    unless_exists(index, [&] {
      made = read(index);
      progress_.done(index);
    });
    return made;
  }

  std::unique_ptr<NewLayer> read(size_t index) {
    const ImageLayer& layer = image_.manifest().layers[index];
    const std::unique_ptr<Source> stored = image_.open_layer(index);
    CountingSource counted(*stored, [&](size_t bytes) { progress_.add(index, bytes); });
    std::optional<VerifiedPrefetchSource> blob;
    if (layer.blob_digest) blob.emplace(counted, *layer.blob_digest, "blob", layer.blob_size);
    DecompressingSource plain(blob ? static_cast<Source&>(*blob) : counted);
    VerifiedPrefetchSource tar(plain, layer.diff_id, "uncompressed", {}, kChunksAhead);
    const std::string parent = index == 0 ? "" : loaded_[index - 1].id;
    return driver_.make_layer(loaded_[index].id, parent, below_.get(), tar);
  }

  void begin_commit(size_t index) {
    committing_index_ = index;
    committing_ = std::async(std::launch::async, [&layer = *below_] { layer.commit(); });
  }

  void finish_commit() {
    if (!committing_.valid()) return;
    unless_exists(committing_index_, [&] {
      committing_.get();
      loaded_[committing_index_].size_bytes = below_->size_bytes();
    });
  }

  // Names the layer in errors; but another process may just have put it there, which is as good.
  template <typename Work>
  void unless_exists(size_t index, Work work) const {
    try {
      work();
    } catch (Error& error) {
      if (error.code() == Code::already_exists) return;
      error.add_context(
          fmt::format("layer {} (sha256:{:.12})", index + 1, loaded_[index].diff_id.hex()));
      throw;
    }
  }

  const ImageArchive& image_;
  Driver& driver_;
  ImportProgress& progress_;
  std::vector<LoadedLayer> loaded_;
  std::unique_ptr<NewLayer> below_;
  size_t committing_index_ = 0;
  std::future<void> committing_;  // of below_: the last member, whose end waits for it
};

}  // namespace

std::vector<Progress::Layer> progress_layers(const ImageManifest& manifest) {
  std::vector<Progress::Layer> layers;
  for (const ImageLayer& layer : manifest.layers)
    layers.push_back({.digest = layer.diff_id.hex(), .size_bytes = layer.blob_size});
  return layers;
}

std::vector<LoadedLayer> load_image(const ImageArchive& image, Driver& driver,
                                    ImportProgress& progress) {
  if (image.manifest().layers.empty()) fail(Code::failed_precondition, "the image has no layers");
  return ChainLoader(image, driver, progress).load();
}

}  // namespace veneer
