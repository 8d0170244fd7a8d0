#include "image/library_parts.h"

#include <algorithm>
#include <ranges>
#include <utility>

#include "base/error.h"
#include "image/config_blob.h"
#include "image/documents.h"
#include "image/lookup.h"
#include "image/select.h"
#include "image/timestamp.h"
#include "store/recover.h"

namespace veneer {

namespace {

constexpr std::string_view kIdStart = "sha256:";
constexpr size_t kShortIdDigits = 12;

std::string familiar(const std::string& name) {
  const auto parsed = ImageName::maybe_parse(name);
  return parsed ? parsed->familiar() : name;
}

}  // namespace

std::optional<ImageRecord> maybe_find_image(Meta::Transaction& transaction,
                                            std::string_view reference) {
  if (const auto name = ImageName::maybe_parse(reference))
    if (auto image = transaction.maybe_image_by_name(name->str())) return image;
  if (reference.starts_with(kIdStart)) reference.remove_prefix(kIdStart.size());
  if (!is_id_prefix(reference)) return {};
  const std::vector<ImageRecord> images = transaction.list_images();
  std::vector<std::string> ids;
  for (const ImageRecord& image : images) ids.push_back(image.config.hex());
  const auto id = maybe_id(reference, ids);
  if (!id) return {};
  return images[static_cast<size_t>(std::ranges::find(ids, *id) - ids.begin())];
}

std::optional<ContainerRecord> maybe_find_container(Meta::Transaction& transaction,
                                                    std::string_view reference) {
  if (auto container = transaction.maybe_container_by_name(reference)) return container;
  if (!is_id_prefix(reference)) return {};
  const auto id = maybe_id(reference, transaction.list_container_ids(reference, 2));
  return id ? transaction.maybe_container(*id) : std::nullopt;
}

ImageRecord find_image(Meta::Transaction& transaction, std::string_view reference) {
  if (auto image = maybe_find_image(transaction, reference)) return std::move(*image);
  fail(Code::not_found, "no image {}{}", shown(reference),
       did_you_mean(reference, familiar_image_names(transaction)));
}

ContainerRecord find_container(Meta::Transaction& transaction, std::string_view reference) {
  if (auto container = maybe_find_container(transaction, reference)) return std::move(*container);
  fail(Code::not_found, "no container {}{}", shown(reference),
       did_you_mean(reference, container_names(transaction)));
}

std::vector<std::string> familiar_image_names(Meta::Transaction& transaction) {
  std::vector<std::string> names;
  for (const ImageRecord& image : transaction.list_images())
    for (const std::string& name : image.names) names.push_back(familiar(name));
  return names;
}

std::vector<std::string> container_names(Meta::Transaction& transaction) {
  std::vector<std::string> names;
  for (ContainerRecord& container : transaction.list_containers())
    names.push_back(std::move(container.name));
  return names;
}

ImageInfo describe_image(Store& store, Meta::Transaction& transaction, const ImageRecord& record) {
  const ImageConfig config = parse_config(read_config(store, record.config));
  ImageInfo info;
  info.record = record;
  for (const std::string& name : record.names) info.names.push_back(familiar(name));
  std::ranges::sort(info.names);
  info.platform = config.platform.str();
  info.created = maybe_parse_timestamp(config.created);
  for (const Digest& diff_id : config.diff_ids)
    if (const auto layer = transaction.maybe_layer(diff_id)) info.size_bytes += layer->file_bytes;
  info.layers = config.diff_ids.size();
  info.containers = transaction.count_containers(record.id);
  if (const auto view = transaction.maybe_snapshot(kLocalSpace, view_key(record)))
    info.mounted_on = mounted_path(store, view->id);
  return info;
}

ContainerInfo describe_container(Store& store, Meta::Transaction& transaction,
                                 const ContainerRecord& record) {
  ContainerInfo info{.record = record, .image_name = {}, .mounted_on = {}};
  const auto image = transaction.maybe_image(record.image);
  if (!image) fail(Code::corrupt, "the image of container {} is not there", record.name);
  info.image_name = shown_image(*image);
  info.mounted_on = mounted_path(store, record.snapshot);
  return info;
}

std::string shown_image(const ImageRecord& record) {
  return record.names.empty() ? record.config.hex().substr(0, kShortIdDigits)
                              : familiar(record.names.front());
}

std::string view_key(const ImageRecord& record) {
  return "view-" + record.config.hex();
}

std::string mounted_path(const Store& store, int64_t snapshot) {
  const RelPath merged = Layout::snapshot_name(snapshot) / kMergedName.c_str();
  if (!is_mount_point_at(store.layout().snapshots(), merged)) return "";
  return fmt::format("{}/{}", store.layout().snapshot_path(snapshot), kMergedName.c_str());
}

namespace {

Import::Layer layer_of(Meta::Transaction& transaction, const SnapshotRecord& snapshot) {
  const auto layer =
      snapshot.variant ? transaction.maybe_layer(snapshot.variant->diff_id) : std::nullopt;
  if (!layer) fail(Code::corrupt, "snapshot {} has no layer", snapshot.info.name);
  return {.diff_id = layer->diff_id,
          .file_bytes = layer->file_bytes,
          .existed = true,
          .variant = snapshot.variant->id};
}

}  // namespace

KnownChain find_chain(Meta::Transaction& transaction, const std::vector<Digest>& diff_ids) {
  KnownChain known;
  std::optional<Digest> chain;
  for (const Digest& diff_id : diff_ids) {
    chain = chain_id(chain, diff_id);
    const auto snapshot = transaction.maybe_snapshot(kLocalSpace, chain->str());
    if (!snapshot) break;
    known.top = snapshot->id;
    known.layers.push_back(layer_of(transaction, *snapshot));
  }
  return known;
}

KnownChain read_chain(Meta::Transaction& transaction, std::optional<int64_t> top) {
  KnownChain known{.top = top, .layers = {}};
  if (top)
    for (const SnapshotRecord& snapshot : transaction.chain(*top) | std::views::reverse)
      known.layers.push_back(layer_of(transaction, snapshot));
  return known;
}

namespace {

bool is_there(Meta::Transaction& transaction, const KnownChain& known) {
  std::vector<Digest> diff_ids;
  for (const Import::Layer& layer : known.layers) diff_ids.push_back(layer.diff_id);
  const KnownChain found = find_chain(transaction, diff_ids);
  return found.top == known.top && found.layers.size() == known.layers.size();
}

}  // namespace

std::optional<LoadedImage> maybe_add_image(Store& store, const NewImage& image) {
  StagedConfig config(store, image.config);
  Meta::Transaction transaction = store.meta().write();
  if (!is_there(transaction, image.known)) return {};
  OrphanGuard orphans(store.open_mark());
  if (!image.import.publish(transaction)) return {};
  LoadedImage loaded;
  loaded.layers = image.known.layers;
  loaded.layers.insert(loaded.layers.end(), image.import.layers().begin(),
                       image.import.layers().end());
  auto record = transaction.maybe_image(config.digest());
  loaded.existed = record.has_value();
  if (!record) {
    record.emplace();
    record->config = config.digest();
    record->top = add_chain(transaction, kLocalSpace, loaded.layers);
    record->added = now();
    config.publish(transaction);
    record->id = transaction.add_image(*record);
  }
  for (const ImageName& name : image.names) transaction.set_image_name(name.str(), record->id);
  record = transaction.maybe_image(config.digest());
  loaded.image = describe_image(store, transaction, record.value());
  transaction.commit();
  orphans.done();
  return loaded;
}

}  // namespace veneer
