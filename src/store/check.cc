#include "store/check.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <iterator>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "layer/settle.h"
#include "layer/side_by_side.h"
#include "store/check_layer.h"
#include "store/check_parts.h"
#include "store/meta_check.h"

namespace veneer {

namespace {

constexpr size_t kSnapshotsAtOnce = 1000;
constexpr std::chrono::milliseconds kBetweenLooks{100};

// All rows, of one state of the database.
struct Rows {
  // `broken` are snapshots whose rows may be unreadable, because their parents' are not there.
  Rows(Meta::Transaction transaction, const std::set<int64_t>& broken);
  // A database that lost its content would make everything an orphan.
  bool has_content() const { return !layers.empty() || !snapshots.empty() || !images.empty(); }

  std::vector<LayerToCheck> layers;
  std::map<int64_t, SnapshotRecord> snapshots;
  std::vector<ImageRecord> images;
  std::vector<ContainerRecord> containers;
  std::map<Digest, uint64_t> blobs;
};

// All snapshots by id, `broken` ones left out where they make the query fail.
std::vector<SnapshotRecord> read_snapshots(Meta::Transaction& transaction,
                                           const std::set<int64_t>& broken) {
  std::vector<SnapshotRecord> all;
  int64_t last = 0;
  size_t limit = kSnapshotsAtOnce;
  for (;;) {
    try {
      std::vector<SnapshotRecord> page = transaction.list_snapshots("", last, limit);
      if (page.empty()) return all;
      last = page.back().id;
      std::ranges::move(page, std::back_inserter(all));
    } catch (const Error& error) {
      const auto next = broken.upper_bound(last);
      if (error.code() != Code::corrupt || next == broken.end()) throw;
      // One by one from here: the row that fails alone is the next broken one.
      if (std::exchange(limit, 1) == 1) last = *next;
    }
  }
}

Rows::Rows(Meta::Transaction transaction, const std::set<int64_t>& broken) {
  std::map<int64_t, LayerToCheck> by_id;
  for (const LayerRecord& layer : transaction.list_layers())
    by_id[layer.id] = {
        .record = layer, .variants = transaction.list_variants(layer.id), .parents = {}};
  for (SnapshotRecord& snapshot : read_snapshots(transaction, broken)) {
    if (snapshot.variant && by_id.contains(snapshot.variant->layer)) {
      Parents& parents = by_id[snapshot.variant->layer].parents[snapshot.variant->id];
      if (std::ranges::find(parents, snapshot.parent) == parents.end())
        parents.push_back(snapshot.parent);
    }
    snapshots.emplace(snapshot.id, std::move(snapshot));
  }
  for (auto& [id, layer] : by_id) layers.push_back(std::move(layer));
  images = transaction.list_images();
  containers = transaction.list_containers();
  for (const Digest& digest : transaction.list_blobs())
    blobs.emplace(digest, transaction.maybe_blob(digest).value_or(0));
}

// What a snapshot lacks, if it lacks something.
std::optional<Damage> maybe_snapshot_damage(const Layout& layout, const SnapshotRecord& snapshot) {
  if (snapshot.variant) return std::nullopt;  // its content is the layer
  Damage damage;
  damage.kind = DamageKind::snapshot;
  damage.what = fmt::format("snapshot {}/{}", snapshot.space, snapshot.info.name);
  damage.path = fmt::format("snapshots/{}", snapshot.id);
  damage.snapshot = snapshot.id;
  const bool is_view = snapshot.info.kind == Kind::view;
  const auto directory = maybe_open_dir_at(layout.snapshots(), Layout::snapshot_name(snapshot.id));
  const auto lacks = [&](PathView name, bool was_empty) {
    if (directory && maybe_open_dir_at(directory->get(), name)) return false;
    damage.remedy = was_empty ? Remedy::make_directory : Remedy::none;
    damage.why = directory ? "it is not there" : "its directory is not there";
    if (directory) damage.path += std::string("/") + name.c_str();
    return true;
  };
  if (lacks(kUpperName, is_view)) return damage;
  if (snapshot.info.kind == Kind::active && lacks(kWorkName, true)) return damage;
  return std::nullopt;
}

class Checker {
 public:
  Checker(Store& store, const CheckOptions& options) : store_(store), options_(options) {}
  CheckResult run();

 private:
  void read_rows();
  void check_files();
  void add_database(std::string why);
  void check_references();
  void check_layers();
  void check_snapshots();
  void check_blobs();
  std::string blob_problem(const Digest& digest, uint64_t size_bytes) const;
  void add_blob(const Digest& digest, std::string why);
  void find_orphans();
  void add_orphan(const std::string& path);
  bool is_still_damage(Meta::Transaction& transaction, const Damage& damage) const;
  void look_again();
  void look_again_at_orphans();
  bool has_orphans_still();
  void keep_what_may_be_needed();
  void name_users();

  Store& store_;
  const CheckOptions& options_;
  std::optional<Rows> rows_;
  std::set<int64_t> broken_;           // snapshots that refer to what is not there
  std::set<int64_t> without_variant_;  // those of them whose layer is not there
  CheckResult result_;
};

CheckResult Checker::run() {
  try {
    read_rows();
    check_files();
  } catch (const Error& error) {
    // A database that is damaged fails in many ways, and sometimes late.
    if (error.code() != Code::corrupt) throw;
    if (std::ranges::find(result_.damages, DamageKind::database, &Damage::kind) ==
        result_.damages.end())
      add_database(error.message());
    keep_what_may_be_needed();
  }
  std::ranges::stable_sort(result_.damages, {}, &Damage::kind);
  return std::move(result_);
}

void Checker::check_files() {
  check_layers();
  check_snapshots();
  check_blobs();
  find_orphans();
  look_again();
  look_again_at_orphans();
  keep_what_may_be_needed();
  name_users();
}

void Checker::add_database(std::string why) {
  Damage damage;
  damage.what = "database";
  damage.path = "store.db";
  damage.why = std::move(why);
  result_.damages.push_back(std::move(damage));
}

void Checker::read_rows() {
  for (std::string& why : find_database_damage(store_.layout())) add_database(std::move(why));
  check_references();
  rows_.emplace(store_.meta().read(), broken_);
  result_.layers = rows_->layers.size();
  result_.snapshots = rows_->snapshots.size();
  result_.blobs = rows_->blobs.size();
}

void Checker::check_references() {
  for (const BrokenReference& broken : find_broken_references(store_.layout())) {
    Damage damage;
    damage.kind = DamageKind::reference;
    damage.remedy = broken.is_lone ? Remedy::remove_row : Remedy::relink;
    damage.what = broken.name;
    damage.why = fmt::format("the database has lost a row of {}", broken.target);
    if (broken.table == "variants") damage.variant = broken.row;
    if (broken.table == "snapshots" || broken.table == "containers") damage.snapshot = broken.row;
    if (broken.table == "images") damage.image = broken.row;
    broken_.insert(broken.snapshots.begin(), broken.snapshots.end());
    if (broken.target == "variants" || broken.table == "variants")
      without_variant_.insert(broken.snapshots.begin(), broken.snapshots.end());
    damage.snapshots = broken.snapshots;
    result_.damages.push_back(std::move(damage));
  }
}

void Checker::check_layers() {
  std::vector<const LayerToCheck*> layers;
  std::vector<LayerRecord> records;
  std::vector<uint64_t> sizes;
  for (const LayerToCheck& layer : rows_->layers) {
    if (options_.layers && !options_.layers->contains(layer.record.diff_id)) continue;
    layers.push_back(&layer);
    records.push_back(layer.record);
    sizes.push_back(layer.record.tar_bytes);
    if (!options_.is_fast) result_.hashed_bytes += layer.record.tar_bytes;
  }
  ImportProgress* progress =
      options_.progress && !options_.is_fast ? options_.progress(records) : nullptr;
  std::vector<std::vector<Damage>> found(layers.size());
  const auto work = [&](size_t index, const std::stop_token& stop) {
    if (progress != nullptr) progress->begin(index);
    LayerCheckOptions options{.is_fast = options_.is_fast, .stop = stop, .read = {}};
    if (progress != nullptr) options.read = [&](size_t bytes) { progress->add(index, bytes); };
    found[index] = check_layer(store_, *layers[index], options);
    if (progress != nullptr) progress->done(index);
  };
  const auto take = [&](size_t index) {
    std::ranges::move(found[index], std::back_inserter(result_.damages));
  };
  run_side_by_side(sizes, layers_at_once(), {.work = work, .take = take});
}

void Checker::check_snapshots() {
  for (const auto& [id, snapshot] : rows_->snapshots) {
    if (without_variant_.contains(id)) continue;
    if (auto damage = maybe_snapshot_damage(store_.layout(), snapshot))
      result_.damages.push_back(std::move(*damage));
  }
}

void Checker::add_blob(const Digest& digest, std::string why) {
  Damage damage;
  damage.kind = DamageKind::blob;
  const bool is_used =
      std::ranges::find(rows_->images, digest, &ImageRecord::config) != rows_->images.end();
  damage.remedy = is_used ? Remedy::other_image : Remedy::remove_row;
  damage.what = fmt::format("blob {}", digest.str());
  damage.path = fmt::format("blobs/sha256/{}", digest.hex());
  damage.why = std::move(why);
  damage.digest = digest;
  result_.damages.push_back(std::move(damage));
}

std::string Checker::blob_problem(const Digest& digest, uint64_t size_bytes) const {
  const int blobs = store_.layout().blobs();
  const RelPath name = Layout::digest_name(digest);
  const auto st = maybe_stat_at(blobs, name);
  if (!st) return "it is not there";
  if (!S_ISREG(st->st_mode)) return "it is no file";
  const auto size = static_cast<uint64_t>(st->st_size);
  if (size != size_bytes) return fmt::format("it has {} bytes, not {}", size, size_bytes);
  if (options_.is_fast) return "";
  try {
    const UniqueFd file = open_at(blobs, name, O_RDONLY);
    forget_cached(file.get());
    FdSource source(file.get());
    HashingSource hashed(source);
    drain(hashed);
    const Digest found = hashed.digest();
    return found == digest ? "" : fmt::format("its digest is {}", found.str());
  } catch (const SysError& error) {
    if (error.error_number() != EIO && error.error_number() != ENOENT) throw;
    return error.message();
  }
}

void Checker::check_blobs() {
  for (const auto& [digest, size_bytes] : rows_->blobs)
    if (std::string why = blob_problem(digest, size_bytes); !why.empty())
      add_blob(digest, std::move(why));
  for (const ImageRecord& image : rows_->images)
    if (!rows_->blobs.contains(image.config))
      add_blob(image.config, "the database does not have it");
}

// --- orphans -----------------------------------------------------------------------------------

void Checker::add_orphan(const std::string& path) {
  Damage damage;
  damage.kind = DamageKind::orphan;
  damage.remedy = rows_->has_content() ? Remedy::discard : Remedy::none;
  damage.what = path;
  damage.path = path;
  damage.why = rows_->has_content() ? "the database does not know it"
                                    : "the database is empty: it may have been another one";
  result_.damages.push_back(std::move(damage));
}

void Checker::find_orphans() {
  const Layout& layout = store_.layout();
  std::map<std::string, std::set<std::string>> layers;
  for (const LayerToCheck& layer : rows_->layers) {
    std::set<std::string>& names = layers[layer.record.diff_id.hex()];
    names.insert(kLayerTarName.c_str());
    for (const VariantRecord& variant : layer.variants) names.insert(variant.name);
  }
  for (const std::string& name : list_dir(layout.layers())) {
    const std::string path = "layers/sha256/" + name;
    const auto known = layers.find(name);
    if (known == layers.end()) {
      add_orphan(path);
      continue;
    }
    const auto directory = maybe_open_dir_at(layout.layers(), RelPath::parse_name(name, "layer"));
    if (!directory) continue;
    for (const std::string& file : list_dir(directory->get()))
      if (!known->second.contains(file)) add_orphan(path + "/" + file);
  }
  for (const std::string& name : list_dir(layout.snapshots()))
    if (const auto id = maybe_number(name);
        id && !rows_->snapshots.contains(*id) && !broken_.contains(*id))
      add_orphan("snapshots/" + name);
  std::set<std::string> blobs;
  for (const auto& [digest, size_bytes] : rows_->blobs) blobs.insert(digest.hex());
  for (const ImageRecord& image : rows_->images) blobs.insert(image.config.hex());
  for (const std::string& name : list_dir(layout.blobs()))
    if (!blobs.contains(name)) add_orphan("blobs/sha256/" + name);
}

// --- what went on meanwhile --------------------------------------------------------------------

bool Checker::is_still_damage(Meta::Transaction& transaction, const Damage& damage) const {
  switch (damage.kind) {
    case DamageKind::row:
    case DamageKind::layer:
    case DamageKind::tar:
    case DamageKind::index:
    case DamageKind::tree: {
      const auto layer = transaction.maybe_layer(*damage.digest);
      if (!layer || layer->id != damage.layer) return false;
      return damage.variant == 0 || maybe_variant_at(transaction, damage.layer, damage.variant);
    }
    case DamageKind::snapshot: {
      const auto now = transaction.list_snapshots("", damage.snapshot - 1, 1);
      if (now.empty() || now.front().id != damage.snapshot) return false;
      return maybe_snapshot_damage(store_.layout(), now.front()).has_value();
    }
    case DamageKind::blob:
      return transaction.maybe_blob(*damage.digest) || transaction.maybe_image(*damage.digest);
    default:
      return true;
  }
}

// A file goes after its row has gone: what has its row still should have its file.
void Checker::look_again() {
  if (result_.damages.empty()) return;
  Meta::Transaction transaction = store_.meta().read();
  std::erase_if(result_.damages,
                [&](const Damage& damage) { return !is_still_damage(transaction, damage); });
}

// Whoever publishes does so inside a transaction that writes, so in another one what has no row
// never will have. What was just removed is renamed soon, unless its process died.
void Checker::look_again_at_orphans() {
  std::chrono::milliseconds waited{0};
  while (has_orphans_still() && waited < options_.orphan_patience) {
    std::this_thread::sleep_for(kBetweenLooks);
    waited += kBetweenLooks;
  }
}

bool Checker::has_orphans_still() {
  const auto is_orphan = [](const Damage& damage) { return damage.kind == DamageKind::orphan; };
  if (std::ranges::none_of(result_.damages, is_orphan)) return false;
  Meta::Transaction transaction = store_.meta().write();
  std::erase_if(result_.damages, [&](const Damage& damage) {
    return is_orphan(damage) && (!exists_at(store_.layout().root(), RelPath::parse(damage.path)) ||
                                 has_row(transaction, damage.path));
  });
  return std::ranges::any_of(result_.damages, is_orphan);
}

// Where the database has lost rows, nobody knows what was theirs.
void Checker::keep_what_may_be_needed() {
  const bool has_lost = std::ranges::any_of(result_.damages, [](const Damage& damage) {
    return damage.kind == DamageKind::database || damage.remedy == Remedy::relink;
  });
  if (!has_lost) return;
  for (Damage& damage : result_.damages)
    if (damage.remedy == Remedy::discard || damage.remedy == Remedy::remove_row) {
      damage.remedy = Remedy::none;
      damage.why += "; kept, as the database has lost rows";
    }
}

// --- who is affected ---------------------------------------------------------------------------

// Snapshots and layers that `top` stands on, itself included.
struct Needed {
  std::set<int64_t> snapshots;
  std::set<int64_t> layers;
};

Needed needed_by(const Rows& rows, std::optional<int64_t> top) {
  Needed needed;
  while (top && needed.snapshots.insert(*top).second) {
    const auto snapshot = rows.snapshots.find(*top);
    if (snapshot == rows.snapshots.end()) break;
    if (snapshot->second.variant) needed.layers.insert(snapshot->second.variant->layer);
    top = snapshot->second.parent;
  }
  return needed;
}

bool is_needed(const Damage& damage, const Needed& needed) {
  return needed.layers.contains(damage.layer) || needed.snapshots.contains(damage.snapshot) ||
         std::ranges::any_of(damage.snapshots,
                             [&](int64_t one) { return needed.snapshots.contains(one); });
}

void Checker::name_users() {
  if (result_.damages.empty()) return;
  for (const ImageRecord& image : rows_->images) {
    const Needed needed = needed_by(*rows_, image.top);
    std::vector<std::string> names = image.names;
    if (names.empty()) names.push_back(image.config.hex());
    for (Damage& damage : result_.damages)
      if (is_needed(damage, needed) || damage.image == image.id || damage.digest == image.config)
        damage.images.insert(damage.images.end(), names.begin(), names.end());
  }
  for (const ContainerRecord& container : rows_->containers) {
    const Needed needed = needed_by(*rows_, container.snapshot);
    for (Damage& damage : result_.damages)
      if (is_needed(damage, needed)) damage.containers.push_back(container.name);
  }
  for (Damage& damage : result_.damages) {
    std::ranges::sort(damage.images);
    std::ranges::sort(damage.containers);
  }
}

}  // namespace

// --- what repair shares ------------------------------------------------------------------------

std::string_view to_string(DamageKind kind) {
  switch (kind) {
    case DamageKind::database:
      return "database";
    case DamageKind::reference:
      return "reference";
    case DamageKind::row:
      return "row";
    case DamageKind::layer:
      return "layer";
    case DamageKind::tar:
      return "tar";
    case DamageKind::index:
      return "index";
    case DamageKind::tree:
      return "tree";
    case DamageKind::snapshot:
      return "snapshot";
    case DamageKind::blob:
      return "blob";
    case DamageKind::orphan:
      return "orphan";
  }
  return "";
}

std::string_view to_string(Remedy remedy) {
  switch (remedy) {
    case Remedy::none:
      return "none";
    case Remedy::rebuild:
      return "from the tar";
    case Remedy::other_image:
      return "from an image file";
    case Remedy::discard:
      return "to trash";
    case Remedy::remove_row:
      return "remove the row";
    case Remedy::make_directory:
      return "make it anew";
    case Remedy::correct_row:
      return "correct the row";
    case Remedy::relink:
      return "from the layers";
  }
  return "";
}

std::optional<int64_t> maybe_number(std::string_view name) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc() || std::to_string(number) != name) return std::nullopt;
  return number;
}

std::optional<VariantRecord> maybe_variant_at(Meta::Transaction& transaction, int64_t layer,
                                              int64_t variant) {
  for (VariantRecord& record : transaction.list_variants(layer))
    if (record.id == variant) return std::move(record);
  return std::nullopt;
}

Parents parents_of(Meta::Transaction& transaction, int64_t variant) {
  Parents parents;
  transaction.for_each_snapshot("", [&](const SnapshotRecord& snapshot) {
    if (snapshot.variant && snapshot.variant->id == variant &&
        std::ranges::find(parents, snapshot.parent) == parents.end())
      parents.push_back(snapshot.parent);
  });
  return parents;
}

bool has_row(Meta::Transaction& transaction, std::string_view path) {
  const auto maybe_digest = [](std::string_view hex) -> std::optional<Digest> {
    try {
      return Digest::parse(fmt::format("sha256:{}", hex));
    } catch (const Error&) {
      return std::nullopt;
    }
  };
  constexpr std::string_view kSnapshots = "snapshots/";
  constexpr std::string_view kLayers = "layers/sha256/";
  constexpr std::string_view kBlobs = "blobs/sha256/";
  if (path.starts_with(kSnapshots)) {
    const auto id = maybe_number(path.substr(kSnapshots.size()));
    if (!id) return false;
    try {
      const auto page = transaction.list_snapshots("", *id - 1, 1);
      return !page.empty() && page.front().id == *id;
    } catch (const Error& error) {
      if (error.code() != Code::corrupt) throw;
      return true;  // a row that cannot be read may be this one
    }
  }
  if (path.starts_with(kBlobs)) {
    const auto digest = maybe_digest(path.substr(kBlobs.size()));
    return digest && transaction.maybe_blob(*digest);
  }
  if (!path.starts_with(kLayers)) return false;
  path.remove_prefix(kLayers.size());
  const auto digest = maybe_digest(path.substr(0, path.find('/')));
  const auto layer = digest ? transaction.maybe_layer(*digest) : std::nullopt;
  if (!layer || path.find('/') == std::string_view::npos) return layer.has_value();
  return transaction.maybe_variant(layer->id, path.substr(path.find('/') + 1)).has_value();
}

CheckResult check_store(Store& store, const CheckOptions& options) {
  return Checker(store, options).run();
}

}  // namespace veneer
