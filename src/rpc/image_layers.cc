#include "rpc/image_layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/limits.h"
#include "image/documents.h"
#include "rpc/blob_files.h"
#include "rpc/media_types.h"
#include "stream/verify.h"

namespace veneer {

namespace {

// Nothing if it is not there.
std::optional<std::string> maybe_document(const std::string& content_dir, const Digest& digest) {
  const auto stored = maybe_open_blob(content_dir, digest);
  if (!stored) return std::nullopt;
  VerifyingSource verified(*stored, digest, "document", std::nullopt);
  return read_all(verified, limits::kJsonBytes, "document");
}

// Nothing if the layer is none of this image, or its documents are not all there.
std::optional<std::vector<AheadLayer>> layers_above(const std::string& content_dir,
                                                    const Digest& manifest_digest,
                                                    const LayerPlace& place) {
  const auto text = maybe_document(content_dir, manifest_digest);
  if (!text) return std::nullopt;
  const OciManifest manifest = parse_manifest(*text, std::nullopt);
  const auto config_text = maybe_document(content_dir, manifest.config.digest);
  if (!config_text) return std::nullopt;
  const std::vector<Digest> diff_ids = parse_config(*config_text).diff_ids;
  const size_t index = place.below.size();
  if (diff_ids.size() != manifest.layers.size() || index >= diff_ids.size()) return std::nullopt;
  if (manifest.layers[index].digest != place.blob) return std::nullopt;
  if (!std::equal(place.below.begin(), place.below.end(), diff_ids.begin())) return std::nullopt;
  std::vector<AheadLayer> above;
  for (size_t next = index + 1; next < diff_ids.size(); ++next) {
    const Descriptor& layer = manifest.layers[next];
    if (!maybe_layer_compression(layer.media_type)) continue;
    above.push_back({.blob = layer.digest, .size_bytes = layer.size, .diff_id = diff_ids[next]});
  }
  return above;
}

}  // namespace

std::vector<AheadLayer> find_layers_above(const ContentClient& client,
                                          const std::string& content_dir, const LayerPlace& place) {
  const std::string label = fmt::format("containerd.io/gc.ref.content.l.{}", place.below.size());
  std::optional<std::vector<AheadLayer>> found;
  for (const Digest& manifest : client.labelled(place.space, label, place.blob.str())) {
    auto above = layers_above(content_dir, manifest, place);
    if (found && above && above != found) return {};
    if (above) found = std::move(above);
  }
  return found.value_or(std::vector<AheadLayer>());
}

}  // namespace veneer
