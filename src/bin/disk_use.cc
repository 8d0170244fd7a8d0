#include "bin/disk_use.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "bin/answers.h"

namespace veneer {

namespace {

std::vector<SnapshotRecord> list_all_snapshots(Meta::Transaction& transaction) {
  std::vector<SnapshotRecord> all;
  transaction.for_each_snapshot("",
                                [&](const SnapshotRecord& snapshot) { all.push_back(snapshot); });
  return all;
}

// What lies on disk once: a layer, or the directory of a snapshot that was committed in place.
struct Unit {
  uint64_t size_bytes = 0;
  std::vector<int64_t> snapshots;  // that have it
  size_t images = 0;
};

struct Units {
  std::map<int64_t, Unit> of_layers;     // by layer
  std::map<int64_t, Unit> of_snapshots;  // by snapshot
  std::map<int64_t, Unit*> by_snapshot;  // into the two above
};

Units read_units(Meta::Transaction& transaction) {
  Units units;
  for (const LayerRecord& layer : transaction.list_layers())
    for (const VariantRecord& variant : transaction.list_variants(layer.id))
      units.of_layers[layer.id].size_bytes += variant.usage.size_bytes;
  for (const SnapshotRecord& snapshot : list_all_snapshots(transaction)) {
    if (!snapshot.variant && snapshot.info.kind != Kind::committed) continue;
    Unit& unit = snapshot.variant ? units.of_layers[snapshot.variant->layer]
                                  : units.of_snapshots[snapshot.id];
    if (!snapshot.variant && snapshot.usage) unit.size_bytes = snapshot.usage->size_bytes;
    unit.snapshots.push_back(snapshot.id);
    units.by_snapshot[snapshot.id] = &unit;
  }
  return units;
}

void add_unit(const Unit& unit, const std::set<int64_t>& free_snapshots, DiskUse& use) {
  ++use.layers.count;
  use.layers.size_bytes += unit.size_bytes;
  if (unit.snapshots.size() > 1 || unit.images > 1) use.layers.shared_bytes += unit.size_bytes;
  if (unit.snapshots.empty()) use.layers.reclaimable_bytes += unit.size_bytes;
  if (unit.images == 0) return;
  use.images.size_bytes += unit.size_bytes;
  if (unit.images > 1) use.images.shared_bytes += unit.size_bytes;
  if (std::ranges::all_of(unit.snapshots, [&](int64_t id) { return free_snapshots.contains(id); }))
    use.images.reclaimable_bytes += unit.size_bytes;
}

struct ImageParts {
  ImageUse use;
  bool is_used = false;  // by containers
  std::set<int64_t> snapshots;
  std::set<Unit*> units;  // an image may have a layer twice
};

std::vector<SnapshotRecord> chain_of(Meta::Transaction& transaction, const ImageRecord& image) {
  if (!image.top) return {};
  return transaction.chain(*image.top);
}

// After all images were counted in their units.
ImageUse measure_image(const ImageParts& parts) {
  ImageUse use = parts.use;
  for (const Unit* unit : parts.units) {
    use.size_bytes += unit->size_bytes;
    const bool is_alone = std::ranges::all_of(
        unit->snapshots, [&](int64_t id) { return parts.snapshots.contains(id); });
    if (unit->images > 1) use.shared_bytes += unit->size_bytes;
    if (unit->images == 1 && is_alone && !parts.is_used) use.reclaimable_bytes += unit->size_bytes;
  }
  return use;
}

void measure_images(Meta::Transaction& transaction, Units& units, DiskUse& use) {
  std::set<Digest> used;
  for (const ContainerRecord& container : transaction.list_containers())
    used.insert(container.image);
  std::set<int64_t> free_snapshots;
  std::set<int64_t> used_snapshots;
  std::vector<ImageParts> images;
  for (const ImageRecord& image : transaction.list_images()) {
    ++use.images.count;
    ImageParts& parts = images.emplace_back();
    parts.is_used = used.contains(image.config);
    parts.use.record = image;
    for (const SnapshotRecord& snapshot : chain_of(transaction, image)) {
      (parts.is_used ? used_snapshots : free_snapshots).insert(snapshot.id);
      parts.snapshots.insert(snapshot.id);
      parts.units.insert(units.by_snapshot.at(snapshot.id));
    }
    for (Unit* unit : parts.units) ++unit->images;
  }
  for (ImageParts& parts : images) use.each_image.push_back(measure_image(parts));
  for (const int64_t id : used_snapshots) free_snapshots.erase(id);
  for (const auto& [id, unit] : units.of_layers) add_unit(unit, free_snapshots, use);
  for (const auto& [id, unit] : units.of_snapshots) add_unit(unit, free_snapshots, use);
}

}  // namespace

DiskUse measure_disk_use(Store& store, Library& library) {
  DiskUse use;
  Meta::Transaction transaction = store.meta().read();
  Units units = read_units(transaction);
  measure_images(transaction, units, use);
  const std::unique_ptr<Snapshotter> snapshotter = open_snapshotter(store, kLocalSpace);
  for (const ContainerInfo& container : library.containers()) {
    const auto key = transaction.snapshot(container.record.snapshot).info.name;
    const uint64_t size_bytes = snapshotter->usage(key).size_bytes;
    ++use.containers.count;
    use.containers.size_bytes += size_bytes;
    if (container.mounted_on.empty()) use.containers.reclaimable_bytes += size_bytes;
  }
  return use;
}

uint64_t LayerUse::disk_bytes() const {
  uint64_t bytes = 0;
  for (const VariantRecord& variant : variants) bytes += variant.usage.size_bytes;
  return bytes;
}

std::string LayerUse::forms() const {
  std::set<std::string_view, std::greater<>> names;  // packed first
  for (const VariantRecord& variant : variants) names.insert(to_string(variant.form));
  return fmt::format("{}", fmt::join(names, "+"));
}

std::vector<LayerUse> list_layer_use(Meta::Transaction& transaction) {
  std::map<int64_t, size_t> snapshots;
  for (const SnapshotRecord& snapshot : list_all_snapshots(transaction))
    if (snapshot.variant) ++snapshots[snapshot.variant->layer];
  std::vector<LayerUse> layers;
  for (const LayerRecord& layer : transaction.list_layers())
    layers.push_back({.layer = layer,
                      .variants = transaction.list_variants(layer.id),
                      .snapshots = snapshots[layer.id]});
  return layers;
}

}  // namespace veneer
