#include "store/repair.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "layer/lower.h"
#include "layer/pack.h"
#include "layer/settle.h"
#include "store/check_parts.h"
#include "store/meta_check.h"
#include "store/recover.h"
#include "store/relink.h"
#include "stream/compress.h"

namespace veneer {

namespace {

// A tar gives its indexes back, and these what lies over them: each round can only do what those
// before it made possible.
constexpr int kRounds = 8;
constexpr PathView kStagedBlob = "blob";

class Repair {
 public:
  Repair(Store& store, const RepairOptions& options)
      : store_(store),
        layout_(store.layout()),
        options_(options),
        lone_rows_(store.layout(), store.options().is_volatile) {}

  std::vector<Damage> run(std::vector<Damage> damages);

 private:
  bool repair_all(std::vector<Damage>& damages);
  bool repair(const Damage& damage);
  bool rebuild(const Damage& damage);
  std::optional<SettledLayer> maybe_settle(const VariantRecord& variant, StagedLayer& staged,
                                           int directory, const LowerView* lower) const;
  StagedLayer read_good_tar(const LayerRecord& layer) const;
  void place_variant(const LayerRecord& layer, const VariantRecord& variant, int staging,
                     PathView made);
  bool fetch_tar(const Damage& damage);
  void place_tar(const Damage& damage, StagingDir& staging);
  bool fetch_blob(const Damage& damage);
  std::optional<std::string> maybe_good_blob(const Digest& digest) const;
  bool discard(const Damage& damage);
  bool remove_row(const Damage& damage);
  bool remove_unused_layers(const Damage& damage);
  bool correct_row(const Damage& damage);
  bool make_directory(const Damage& damage);
  bool relink_all();

  bool is_durable() const { return !store_.options().is_volatile; }
  template <typename... Args>
  bool done(fmt::format_string<Args...> format, Args&&... args) const {
    if (options_.report) options_.report(fmt::format(format, std::forward<Args>(args)...));
    return true;
  }

  Store& store_;
  const Layout& layout_;
  const RepairOptions& options_;
  LoneRows lone_rows_;
  std::optional<bool> is_relinked_;  // in this round, if that was tried
};

// --- from the tar ------------------------------------------------------------------------------

StagedLayer Repair::read_good_tar(const LayerRecord& layer) const {
  StagedLayer staged;
  const auto directory = maybe_open_dir_at(layout_.layers(), Layout::digest_name(layer.diff_id));
  auto tar = directory ? maybe_open_at(directory->get(), kLayerTarName, O_RDONLY) : std::nullopt;
  if (!tar) fail(Code::corrupt, "the tar is not there");
  staged.tar = std::move(*tar);
  forget_cached(staged.tar.get());
  staged.info = {.diff_id = layer.diff_id, .size_bytes = layer.tar_bytes};
  staged.tree = std::make_unique<LayerTree>();
  FileRangeSource file(staged.tar.get(), 0, layer.tar_bytes);
  HashingSource hashed(file);
  try {
    (void)read_layer_tree(hashed, *staged.tree);
  } catch (Error& error) {
    error.add_context("the tar");
    throw;
  }
  if (hashed.digest() != layer.diff_id) fail(Code::corrupt, "the tar is damaged, too");
  return staged;
}

// Nothing if it is another variant that these lower layers take.
std::optional<SettledLayer> Repair::maybe_settle(const VariantRecord& variant, StagedLayer& staged,
                                                 int directory, const LowerView* lower) const {
  const bool is_packed = variant.form == Form::packed;
  SettledLayer settled = settle_layer(
      staged, directory, lower,
      {.form = is_packed ? LayerForm::packed : LayerForm::directory, .is_durable = is_durable()});
  if (is_packed != (settled.form == LayerForm::packed)) return std::nullopt;
  if (is_packed && settled.index_name != variant.name) return std::nullopt;
  // The name of a tree with links into lower layers tells of the chain, not of what is in it.
  if (is_packed || settled.has_lower_links) return settled;
  const std::string name =
      settled.lower_digest ? fmt::format("fs.{:.16}", settled.lower_digest->hex()) : "fs";
  if (name != variant.name) return std::nullopt;
  return settled;
}

bool Repair::rebuild(const Damage& damage) {
  std::optional<LayerRecord> layer;
  std::optional<VariantRecord> variant;
  Parents parents;
  {
    Meta::Transaction transaction = store_.meta().read();
    layer = transaction.maybe_layer(*damage.digest);
    variant = maybe_variant_at(transaction, damage.layer, damage.variant);
    if (!layer || !variant) return false;
    // One look is enough where nothing below has a say.
    parents =
        layer->depends_on_lower ? parents_of(transaction, damage.variant) : Parents{std::nullopt};
  }
  const std::string action =
      fmt::format("{} of layer {}: made anew from its tar", variant->name, layer->diff_id.str());
  for (const std::optional<int64_t>& parent : parents) {
    StagedLayer staged = read_good_tar(*layer);
    if (options_.is_dry_run) return done("{}", action);
    StagingDir staging(layout_);
    std::optional<Store::OpenedView> below;
    std::optional<LowerView> lower;
    if (layer->depends_on_lower) {
      Meta::Transaction transaction = store_.meta().read();
      below = store_.open_view(transaction, parent);
      lower.emplace(below->view);
    }
    const auto settled = maybe_settle(*variant, staged, staging.fd(), lower ? &*lower : nullptr);
    if (!settled) continue;
    const bool is_packed = variant->form == Form::packed;
    const RelPath made = RelPath::parse_name(
        is_packed ? settled->index_name : std::string(kLayerTreeName.c_str()), "variant");
    place_variant(*layer, *variant, staging.fd(), made);
    if (is_packed && variant->digest != settled->index_digest)
      lone_rows_.set_digest(variant->id, settled->index_digest);
    return done("{}", action);
  }
  fail(Code::corrupt, "no snapshot lies over what it was made for");
}

void Repair::place_variant(const LayerRecord& layer, const VariantRecord& variant, int staging,
                           PathView made) {
  const Meta::Transaction guard = store_.meta().write();  // nothing is removed meanwhile
  const UniqueFd directory = open_dir_at(layout_.layers(), Layout::digest_name(layer.diff_id));
  put_in_place(staging, made, directory.get(), RelPath::parse_name(variant.name, "variant"));
  if (is_durable()) sync_fd(directory.get());
  store_.lowers().release(variant.id);
}

// --- from elsewhere ----------------------------------------------------------------------------

bool Repair::fetch_tar(const Damage& damage) {
  const auto stored = options_.source ? options_.source->maybe_layer(*damage.digest) : nullptr;
  if (!stored) return false;
  if (options_.is_dry_run)
    return done("tar of layer {}: taken from the image file", damage.digest->str());
  StagingDir staging(layout_);
  {
    const UniqueFd tar = open_at(staging.fd(), kLayerTarName, O_RDWR | O_CREAT | O_EXCL, 0400);
    DecompressingSource plain(*stored);
    LimitedSource limited(plain, limits::kLayerBytes, "layer");
    HashingSource hashed(limited);
    FdSink file(tar.get());
    copy_all(hashed, file);
    if (const Digest digest = hashed.digest(); digest != *damage.digest)
      fail(Code::corrupt, "the image file has another layer in its place, {}", digest.str());
    if (is_durable()) sync_data(tar.get());
  }
  if (is_durable()) sync_fd(staging.fd());
  place_tar(damage, staging);
  return done("tar of layer {}: taken from the image file", damage.digest->str());
}

void Repair::place_tar(const Damage& damage, StagingDir& staging) {
  Meta::Transaction guard = store_.meta().write();
  const auto layer = guard.maybe_layer(*damage.digest);
  if (!layer || layer->id != damage.layer) return;  // it was removed meanwhile
  const RelPath name = Layout::digest_name(layer->diff_id);
  const auto directory = maybe_open_dir_at(layout_.layers(), name);
  if (directory) {
    put_in_place(staging.fd(), kLayerTarName, directory->get(), kLayerTarName);
    if (is_durable()) sync_fd(directory->get());
  } else {
    discard_if_there(layout_, layout_.layers(), name);  // what is no directory
    staging.publish(layout_.layers(), name,
                    is_durable() ? StagingDir::Durable::now : StagingDir::Durable::later);
  }
  // They read the old tar.
  for (const VariantRecord& variant : guard.list_variants(layer->id))
    if (variant.form == Form::packed) store_.lowers().release(variant.id);
}

// The bytes may be there, and the row alone have gone.
std::optional<std::string> Repair::maybe_good_blob(const Digest& digest) const {
  try {
    auto text =
        maybe_read_file_at(layout_.blobs(), Layout::digest_name(digest), limits::kJsonBytes);
    if (text && Sha256::of(*text) == digest) return text;
  } catch (const Error&) {
    // It is damaged, and may be had elsewhere.
  }
  return std::nullopt;
}

bool Repair::fetch_blob(const Damage& damage) {
  const Digest& digest = *damage.digest;
  std::optional<std::string> text = maybe_good_blob(digest);
  const bool is_there = text.has_value();
  if (!text && options_.source) text = options_.source->maybe_blob(digest);
  if (!text) return false;
  if (Sha256::of(*text) != digest) fail(Code::corrupt, "the image file has other bytes");
  const std::string action = fmt::format(
      "blob {}: {}", digest.str(), is_there ? "its row made anew" : "taken from the image file");
  if (options_.is_dry_run) return done("{}", action);
  const StagingDir staging(layout_);
  if (!is_there) {
    write_file_at(staging.fd(), kStagedBlob, *text, 0400);
    if (is_durable()) sync_fd(open_at(staging.fd(), kStagedBlob, O_RDONLY).get());
  }
  Meta::Transaction transaction = store_.meta().write();
  if (!transaction.maybe_image(digest)) return false;
  if (!is_there) {
    put_in_place(staging.fd(), kStagedBlob, layout_.blobs(), Layout::digest_name(digest));
    if (is_durable()) sync_fd(layout_.blobs());
  }
  if (transaction.maybe_blob(digest) != text->size()) transaction.remove_blob(digest);
  transaction.add_blob(digest, text->size());
  transaction.commit();
  return done("{}", action);
}

// --- what has no partner -----------------------------------------------------------------------

bool Repair::discard(const Damage& damage) {
  if (options_.is_dry_run) return done("{}: moved to trash", damage.path);
  const RelPath path = RelPath::parse(damage.path);
  Meta::Transaction guard = store_.meta().write();  // publishers wait
  if (has_row(guard, damage.path)) return false;
  const RelPath name = RelPath::parse_name(path.name(), "orphan");
  const RelPath above = RelPath::parse(path.parent());
  const auto id = maybe_number(name.str());
  if (id && above.str() == "snapshots") {
    discard_snapshot(layout_, *id);
  } else if (const auto directory = maybe_open_dir_at(layout_.root(), above)) {
    discard_if_there(layout_, directory->get(), name);
  }
  return done("{}: moved to trash", damage.path);
}

bool Repair::remove_row(const Damage& damage) {
  switch (damage.kind) {
    case DamageKind::reference:
      if (!options_.is_dry_run) (void)lone_rows_.remove_lone_rows();  // all of them, maybe earlier
      return done("{}: removed", damage.what);
    case DamageKind::blob: {
      if (options_.is_dry_run) return done("{}: its row removed", damage.what);
      Meta::Transaction transaction = store_.meta().write();
      if (transaction.maybe_image(*damage.digest)) return false;
      transaction.remove_blob(*damage.digest);
      transaction.commit();
      return done("{}: its row removed", damage.what);
    }
    default:
      break;
  }
  if (remove_unused_layers(damage)) return true;
  if (damage.variant == 0) return false;
  if (options_.is_dry_run) return done("{}: its row removed", damage.path);
  return lone_rows_.remove_variant(damage.variant) && done("{}: its row removed", damage.path);
}

// Others that nothing has go, too, as with veneer gc.
bool Repair::remove_unused_layers(const Damage& damage) {
  Meta::Transaction transaction =
      options_.is_dry_run ? store_.meta().read() : store_.meta().write();
  const auto unused = transaction.list_unused_layers();
  if (std::ranges::find(unused.layers, damage.layer, &LayerRecord::id) == unused.layers.end())
    return false;
  if (!options_.is_dry_run) store_.collect(std::move(transaction));
  for (const LayerRecord& layer : unused.layers)
    done("layer {}: removed, as nothing has it", layer.diff_id.str());
  return true;
}

bool Repair::correct_row(const Damage& damage) {
  if (!options_.is_dry_run) lone_rows_.set_file_bytes(damage.layer, damage.file_bytes);
  return done("{}: its row corrected", damage.what);
}

bool Repair::make_directory(const Damage& damage) {
  if (options_.is_dry_run) return done("{}: made anew", damage.path);
  Meta::Transaction guard = store_.meta().write();
  if (!has_row(guard, fmt::format("snapshots/{}", damage.snapshot))) return false;
  const RelPath name = Layout::snapshot_name(damage.snapshot);
  const SnapshotRecord snapshot = guard.snapshot(damage.snapshot);
  (void)try_make_dir_at(layout_.snapshots(), name, 0700);  // it may be there
  const UniqueFd directory = open_dir_at(layout_.snapshots(), name);
  const bool is_active = snapshot.info.kind == Kind::active;
  const PathView missing = is_active ? kWorkName : kUpperName;
  if (!maybe_open_dir_at(directory.get(), missing)) {
    discard_if_there(layout_, directory.get(), RelPath::parse_name(missing.c_str(), "directory"));
    make_dir_at(directory.get(), missing, is_active ? 0700 : 0755);
  }
  if (is_durable()) {
    sync_fd(directory.get());
    sync_fd(layout_.snapshots());
  }
  return done("{}: made anew", damage.path);
}

// Once a round: what one lost row kept from being read may have lost others.
bool Repair::relink_all() {
  if (is_relinked_) return *is_relinked_;
  std::vector<std::string> failures;
  is_relinked_ = false;
  is_relinked_ = relink(store_, options_, failures);
  if (!*is_relinked_ && !failures.empty()) fail(Code::corrupt, "{}", failures.front());
  return *is_relinked_;
}

// --- all of it ---------------------------------------------------------------------------------

bool Repair::repair(const Damage& damage) {
  switch (damage.remedy) {
    case Remedy::rebuild:
      return rebuild(damage);
    case Remedy::other_image:
      return damage.kind == DamageKind::blob ? fetch_blob(damage) : fetch_tar(damage);
    case Remedy::discard:
      return discard(damage);
    case Remedy::remove_row:
      return remove_row(damage);
    case Remedy::make_directory:
      return make_directory(damage);
    case Remedy::correct_row:
      return correct_row(damage);
    case Remedy::relink:
      return relink_all();
    case Remedy::none:
      break;
  }
  return false;
}

// True if something was done. Leaves what was not, with the reason.
bool Repair::repair_all(std::vector<Damage>& damages) {
  const size_t before = damages.size();
  is_relinked_.reset();
  std::erase_if(damages, [this](Damage& damage) {
    try {
      return repair(damage);
    } catch (const Error& error) {
      damage.why += fmt::format("; not repaired: {}", error.message());
      return false;
    }
  });
  return damages.size() < before;
}

std::vector<Damage> Repair::run(std::vector<Damage> damages) {
  for (int round = 0; round < kRounds && !damages.empty(); ++round) {
    CheckOptions again = options_.check;
    again.layers.emplace();
    for (const Damage& damage : damages)
      if (damage.layer != 0) again.layers->insert(*damage.digest);
    if (!repair_all(damages) || options_.is_dry_run) break;
    damages = check_store(store_, again).damages;
  }
  return damages;
}

}  // namespace

std::vector<Damage> repair_store(Store& store, std::vector<Damage> damages,
                                 const RepairOptions& options) {
  return Repair(store, options).run(std::move(damages));
}

}  // namespace veneer
