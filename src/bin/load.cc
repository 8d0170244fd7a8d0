#include "bin/load.h"

#include "base/error.h"
#include "stream/compress.h"
#include "stream/prefetch.h"
#include "stream/verify_beside.h"

namespace veneer {

namespace {

// 24 MiB: while a driver makes a layer of its parent's tree, and at the sync of large files, the
// decompression goes on.
constexpr size_t kChunksAhead = 96;

uint64_t add_layer(const ImageArchive& image, size_t index, Driver& driver, std::string_view id,
                   std::string_view parent, ImportProgress& progress) {
  const ImageLayer& layer = image.manifest().layers[index];
  const std::unique_ptr<Source> stored = image.open_layer(index);
  CountingSource counted(*stored, [&](size_t bytes) { progress.add(index, bytes); });
  std::optional<VerifyingBesideSource> blob;
  if (layer.blob_digest) blob.emplace(counted, *layer.blob_digest, "blob", layer.blob_size);
  DecompressingSource plain(blob ? static_cast<Source&>(*blob) : counted);
  PrefetchSource ahead(plain, kChunksAhead);
  VerifyingBesideSource tar(ahead, layer.diff_id, "uncompressed");
  return driver.add_layer(id, parent, tar);
}

// Nothing if the layer is there, also when another process has just put it there.
std::optional<uint64_t> ensure_layer(const ImageArchive& image, size_t index, Driver& driver,
                                     std::string_view id, std::string_view parent,
                                     ImportProgress& progress) {
  const ImageLayer& layer = image.manifest().layers[index];
  if (driver.exists(id)) {
    progress.exists(index);
    return {};
  }
  progress.begin(index);
  try {
    const uint64_t size = add_layer(image, index, driver, id, parent, progress);
    progress.done(index);
    return size;
  } catch (Error& error) {
    if (error.code() == Code::already_exists) return {};
    error.add_context(fmt::format("layer {} (sha256:{:.12})", index + 1, layer.diff_id.hex()));
    throw;
  }
}

}  // namespace

std::vector<Progress::Layer> progress_layers(const ImageManifest& manifest) {
  std::vector<Progress::Layer> layers;
  for (const ImageLayer& layer : manifest.layers)
    layers.push_back({.digest = layer.diff_id.hex(), .size_bytes = layer.blob_size});
  return layers;
}

std::vector<LoadedLayer> load_image(const ImageArchive& image, Driver& driver,
                                    ImportProgress& progress) {
  const std::vector<ImageLayer>& layers = image.manifest().layers;
  if (layers.empty()) fail(Code::failed_precondition, "the image has no layers");
  std::vector<LoadedLayer> loaded;
  std::optional<Digest> chain;
  std::string parent;
  for (size_t index = 0; index < layers.size(); ++index) {
    chain = chain_id(chain, layers[index].diff_id);
    const std::string id = chain->hex();
    const auto size = ensure_layer(image, index, driver, id, parent, progress);
    loaded.push_back({.id = id, .diff_id = layers[index].diff_id, .size_bytes = size});
    parent = id;
  }
  return loaded;
}

}  // namespace veneer
