#include "store/relink.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "layer/settle.h"
#include "store/import.h"
#include "store/recover.h"
#include "store/time.h"

namespace veneer {

namespace {

// Images' and containers' snapshots, docs/FORMAT.md.
constexpr std::string_view kImageSpace = "local";

struct ImageToLink {
  ImageRecord record;
  std::vector<Digest> layers;                  // lowest first
  std::vector<Meta::Transaction::Link> links;  // topmost first
};

class Relink {
 public:
  Relink(Store& store, const RepairOptions& options) : store_(store), options_(options) {}

  std::vector<ImageToLink> find_broken();
  std::vector<ImageToLink> find_lost();
  void relink(const ImageToLink& image);
  bool restore_containers();
  bool remove_lone_names();

 private:
  std::optional<std::vector<Digest>> maybe_layers(const Digest& config) const;
  bool is_whole(Meta::Transaction& transaction, const ImageToLink& image) const;
  std::unique_ptr<Source> open_layer(const Digest& diff_id) const;
  std::optional<int64_t> restore_chain(Meta::Transaction& transaction, const ImageToLink& image,
                                       const std::vector<Import::Layer>& layers);
  void report(const std::string& action) const {
    if (options_.report) options_.report(action);
  }

  Store& store_;
  const RepairOptions& options_;
};

// Nothing if the configuration is damaged, or not there.
std::optional<std::vector<Digest>> Relink::maybe_layers(const Digest& config) const {
  if (!options_.parse_layers) return std::nullopt;
  try {
    auto text = maybe_read_file_at(store_.layout().blobs(), Layout::digest_name(config),
                                   limits::kJsonBytes);
    if (!text || Sha256::of(*text) != config) return std::nullopt;
    return options_.parse_layers(*text);
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<Digest> chain_of(const std::vector<Digest>& layers) {
  std::optional<Digest> chain;
  for (const Digest& layer : layers) chain = chain_id(chain, layer);
  return chain;
}

// True if the rows are those that the configuration demands.
bool Relink::is_whole(Meta::Transaction& transaction, const ImageToLink& image) const {
  try {
    std::vector<Digest> found;
    if (image.record.top)
      for (const SnapshotRecord& snapshot : transaction.chain(*image.record.top)) {
        if (!snapshot.variant) return false;
        found.push_back(snapshot.variant->diff_id);
      }
    std::ranges::reverse(found);
    return found == image.layers;
  } catch (const Error& error) {
    if (error.code() != Code::corrupt) throw;
    return false;
  }
}

// Those with fewer layers first: what other images have in common with them gets its id back.
std::vector<ImageToLink> Relink::find_broken() {
  std::vector<ImageToLink> broken;
  Meta::Transaction transaction = store_.meta().read();
  for (ImageRecord& record : transaction.list_images()) {
    auto layers = maybe_layers(record.config);
    if (!layers) continue;
    ImageToLink image{.record = std::move(record), .layers = std::move(*layers), .links = {}};
    if (is_whole(transaction, image)) continue;
    image.links = transaction.list_links(image.record);
    broken.push_back(std::move(image));
  }
  std::ranges::stable_sort(broken, {},
                           [](const ImageToLink& image) { return image.layers.size(); });
  return broken;
}

// Images whose rows were lost, with the configurations that no image has. Which is whose, the
// containers tell; or there is but one of both.
std::vector<ImageToLink> Relink::find_lost() {
  std::vector<ImageToLink> found;
  Meta::Transaction transaction = store_.meta().read();
  const auto lost = transaction.list_lost_images();
  if (lost.empty()) return found;
  std::vector<ImageToLink> candidates;
  for (const Digest& blob : transaction.list_blobs()) {
    if (transaction.maybe_image(blob)) continue;
    auto layers = maybe_layers(blob);
    if (!layers) continue;
    candidates.push_back({.record = {}, .layers = std::move(*layers), .links = {}});
    candidates.back().record.config = blob;
  }
  for (const auto& image : lost) {
    std::vector<ImageToLink> fitting;
    for (const ImageToLink& candidate : candidates) {
      const auto chain = chain_of(candidate.layers);
      const std::string top = chain ? chain->str() : "";
      if (std::ranges::all_of(image.tops, [&](const std::string& one) { return one == top; }))
        fitting.push_back(candidate);
    }
    if (fitting.size() != 1 || (lost.size() > 1 && image.tops.empty())) continue;
    fitting.front().record.id = image.id;
    fitting.front().record.names = image.names;
    fitting.front().record.added = now();
    found.push_back(std::move(fitting.front()));
  }
  return found;
}

std::unique_ptr<Source> Relink::open_layer(const Digest& diff_id) const {
  if (options_.source != nullptr)
    if (auto source = options_.source->maybe_layer(diff_id)) return source;
  const auto directory = maybe_open_dir_at(store_.layout().layers(), Layout::digest_name(diff_id));
  auto tar = directory ? maybe_open_at(directory->get(), kLayerTarName, O_RDONLY) : std::nullopt;
  if (!tar) fail(Code::not_found, "layer {} is not in the store", diff_id.str());
  forget_cached(tar->get());
  return std::make_unique<FileSource>(std::move(*tar));
}

std::optional<int64_t> Relink::restore_chain(Meta::Transaction& transaction,
                                             const ImageToLink& image,
                                             const std::vector<Import::Layer>& layers) {
  std::optional<int64_t> top;
  std::optional<Digest> chain;
  for (size_t index = 0; index < layers.size(); ++index) {
    chain = chain_id(chain, layers[index].diff_id);
    SnapshotRecord snapshot;
    snapshot.space = kImageSpace;
    snapshot.info.name = chain->str();
    snapshot.info.created = now();
    snapshot.parent = top;
    snapshot.variant = published_variant(transaction, layers[index]);
    snapshot.usage = snapshot.variant->usage;
    // Links are those from the top down to where a row is missing.
    const size_t above = layers.size() - 1 - index;
    if (above < image.links.size()) snapshot.id = image.links[above].snapshot;
    top = transaction.restore_snapshot(snapshot);
  }
  return top;
}

// The layers' tars are read where their rows are missing, so that digests prove them; what has its
// rows is used as it is.
void Relink::relink(const ImageToLink& image) {
  const std::string name =
      image.record.names.empty() ? image.record.config.hex() : image.record.names.front();
  const std::string action = fmt::format("rows of image {}: made anew from its layers", name);
  std::vector<LayerBlob> blobs;
  for (const Digest& layer : image.layers)
    blobs.push_back({.diff_id = layer,
                     .blob_digest = {},
                     .blob_size = {},
                     .open = [this, layer] { return open_layer(layer); },
                     .write = {}});
  if (options_.is_dry_run) {
    for (const Digest& layer : image.layers) (void)open_layer(layer);
    return report(action);
  }
  for (;;) {
    Import import(store_, std::nullopt, blobs);
    import.stage();
    Meta::Transaction transaction = store_.meta().write();
    OrphanGuard orphans(store_.open_mark());
    if (!import.publish(transaction)) {
      orphans.done();
      continue;
    }
    ImageRecord record = image.record;
    record.top = restore_chain(transaction, image, import.layers());
    transaction.restore_image(record);
    transaction.commit();
    orphans.done();
    for (size_t above = 0; above < image.links.size() && above < image.layers.size(); ++above) {
      const int64_t variant = import.layers()[image.layers.size() - 1 - above].variant;
      const auto& before = image.links[above].variant;
      if (before && *before != variant) store_.lowers().release(*before);
    }
    return report(action);
  }
}

bool Relink::restore_containers() {
  bool is_done = false;
  std::vector<Meta::Transaction::LostSnapshot> lost;
  {
    Meta::Transaction transaction = store_.meta().read();
    lost = transaction.list_lost_snapshots();
  }
  for (const auto& one : lost) {
    // Without its files the container is no more.
    if (!maybe_open_dir_at(store_.layout().snapshots(), Layout::snapshot_name(one.id))) continue;
    if (!options_.is_dry_run) {
      Meta::Transaction transaction = store_.meta().write();
      transaction.restore_container_snapshot(one.id);
      transaction.commit();
    }
    report(fmt::format("snapshot of container {}: its row made anew", one.container));
    is_done = true;
  }
  return is_done;
}

// Names of images that nothing gives back.
bool Relink::remove_lone_names() {
  std::vector<std::string> names;
  {
    Meta::Transaction transaction =
        options_.is_dry_run ? store_.meta().read() : store_.meta().write();
    for (const auto& image : transaction.list_lost_images())
      names.insert(names.end(), image.names.begin(), image.names.end());
    if (!options_.is_dry_run) {
      for (const std::string& name : names) transaction.remove_image_name(name);
      transaction.commit();
    }
  }
  for (const std::string& name : names)
    report(fmt::format("image name {}: removed, as its image is not there", name));
  return !names.empty();
}

}  // namespace

bool relink(Store& store, const RepairOptions& options, std::vector<std::string>& failures) {
  Relink relink(store, options);
  bool is_done = false;
  std::vector<ImageToLink> images = relink.find_lost();
  std::ranges::move(relink.find_broken(), std::back_inserter(images));
  for (const ImageToLink& image : images) {
    try {
      relink.relink(image);
      is_done = true;
    } catch (const Error& error) {
      failures.push_back(error.message());
    }
  }
  if (relink.restore_containers()) is_done = true;
  return is_done || (failures.empty() && relink.remove_lone_names());
}

}  // namespace veneer
