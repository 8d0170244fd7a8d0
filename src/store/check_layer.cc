#include "store/check_layer.h"

#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "layer/lower.h"
#include "layer/pack.h"
#include "layer/settle.h"
#include "store/check_tree.h"
#include "stream/prefetch.h"

namespace veneer {

namespace {

// Errors that say something of what is on disk, not of the one who looks.
bool is_damage(const Error& error) {
  const auto* system = dynamic_cast<const SysError*>(&error);
  if (system == nullptr)
    return error.code() == Code::corrupt ||
           error.code() == Code::invalid_argument;  // a name in the database that cannot be one
  switch (system->error_number()) {
    case EIO:
    case EUCLEAN:
    case EBADMSG:
    case ENODATA:
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
      return true;
    default:
      return false;
  }
}

// The message, if the call fails for what is on disk.
template <typename Call>
std::optional<std::string> maybe_damage(Call&& call) {
  try {
    call();
    return std::nullopt;
  } catch (const Error& error) {
    if (!is_damage(error)) throw;
    return error.message();
  }
}

class LayerCheck {
 public:
  LayerCheck(Store& store, const LayerToCheck& layer, const LayerCheckOptions& options)
      : store_(store), layer_(layer), options_(options) {}

  std::vector<Damage> run();

 private:
  Damage& add(DamageKind kind, std::string why);
  Damage& add(const VariantRecord& variant, std::string why);
  bool is_lone(const VariantRecord& variant) const;
  void check_tar();
  void read_tar();
  void check_row();
  void check_variant(const VariantRecord& variant);
  void check_tree(const VariantRecord& variant, const RelPath& name);
  void check_index(const VariantRecord& variant, const RelPath& name);
  template <typename Use>
  void use_tree(const VariantRecord& variant, Use use);
  struct TreeOver {
    Store::OpenedView below;
    std::unique_ptr<LowerView> lower;
    std::unique_ptr<LayerTree> tree;
  };
  std::optional<TreeOver> maybe_tree_over(const VariantRecord& variant,
                                          std::optional<int64_t> parent);
  Digest digest_of(const LayerTree& tree) const;

  Store& store_;
  const LayerToCheck& layer_;
  const LayerCheckOptions& options_;
  std::vector<Damage> found_;
  UniqueFd directory_;
  UniqueFd tar_;
  std::unique_ptr<LayerTree> tree_;  // without lower layers; there if the tar is good
};

Damage& LayerCheck::add(DamageKind kind, std::string why) {
  const Digest& diff_id = layer_.record.diff_id;
  Damage damage;
  damage.kind = kind;
  damage.remedy = layer_.is_used() ? Remedy::other_image : Remedy::remove_row;
  damage.what = fmt::format("layer {}", diff_id.str());
  damage.path = fmt::format("layers/sha256/{}", diff_id.hex());
  damage.why = std::move(why);
  damage.digest = diff_id;
  damage.layer = layer_.record.id;
  return found_.emplace_back(std::move(damage));
}

Damage& LayerCheck::add(const VariantRecord& variant, std::string why) {
  Damage& damage =
      add(variant.form == Form::packed ? DamageKind::index : DamageKind::tree, std::move(why));
  damage.path += "/" + variant.name;
  damage.variant = variant.id;
  if (layer_.is_used()) damage.remedy = is_lone(variant) ? Remedy::remove_row : Remedy::rebuild;
  return damage;
}

// Over what it was made is known from the snapshots that have it alone.
bool LayerCheck::is_lone(const VariantRecord& variant) const {
  return layer_.record.depends_on_lower && !layer_.parents.contains(variant.id);
}

std::vector<Damage> LayerCheck::run() {
  auto directory =
      maybe_open_dir_at(store_.layout().layers(), Layout::digest_name(layer_.record.diff_id));
  if (!directory) {
    add(DamageKind::layer, "its directory is not there");
    return std::move(found_);
  }
  directory_ = std::move(*directory);
  if (layer_.variants.empty()) add(DamageKind::layer, "it has no index and no tree");
  check_tar();
  for (const VariantRecord& variant : layer_.variants) check_variant(variant);
  return std::move(found_);
}

void LayerCheck::check_tar() {
  const std::string tar = std::string("/") + kLayerTarName.c_str();
  const auto st = maybe_stat_at(directory_.get(), kLayerTarName);
  if (!st) {
    add(DamageKind::tar, "it is not there").path += tar;
    return;
  }
  if (!S_ISREG(st->st_mode)) {
    add(DamageKind::tar, "it is no file").path += tar;
    return;
  }
  const auto size = static_cast<uint64_t>(st->st_size);
  if (size != layer_.record.tar_bytes) {
    add(DamageKind::tar, fmt::format("it has {} bytes, not {}", size, layer_.record.tar_bytes))
        .path += tar;
    return;
  }
  if (options_.is_fast) return;
  if (const auto why = maybe_damage([&] { read_tar(); })) {
    tree_.reset();
    add(DamageKind::tar, *why).path += tar;
  }
}

// Once, for the digest and for the tree.
void LayerCheck::read_tar() {
  tar_ = open_at(directory_.get(), kLayerTarName, O_RDONLY);
  forget_cached(tar_.get());
  FileRangeSource file(tar_.get(), 0, layer_.record.tar_bytes);
  CountingSource counted(file, [&](size_t bytes) {
    if (options_.stop.stop_requested()) fail(Code::unavailable, "stopped");
    if (options_.read) options_.read(bytes);
  });
  PrefetchSource ahead(counted);
  HashingSource hashed(ahead);
  auto tree = std::make_unique<LayerTree>();
  (void)read_layer_tree(hashed, *tree);
  if (const Digest digest = hashed.digest(); digest != layer_.record.diff_id)
    fail(Code::corrupt, "its digest is {}", digest.str());
  tree_ = std::move(tree);
  check_row();
}

// What of the row is told by the tar, and not looked at when a layer is used.
void LayerCheck::check_row() {
  const uint64_t is = tree_->file_bytes();
  if (is == layer_.record.file_bytes) return;
  Damage& damage = add(DamageKind::row, fmt::format("the database has {} bytes of files, not {}",
                                                    layer_.record.file_bytes, is));
  damage.remedy = Remedy::correct_row;
  damage.path.clear();
  damage.file_bytes = is;
}

void LayerCheck::check_variant(const VariantRecord& variant) {
  const auto why = maybe_damage([&] {
    const RelPath name = RelPath::parse_name(variant.name, "variant");
    if (variant.form == Form::packed)
      check_index(variant, name);
    else
      check_tree(variant, name);
  });
  if (why) add(variant, *why);
}

void LayerCheck::check_tree(const VariantRecord& variant, const RelPath& name) {
  const auto directory = maybe_open_dir_at(directory_.get(), name);
  if (!directory) fail(Code::corrupt, "it is not there");
  if (options_.is_fast) return;
  use_tree(variant, [&](const LayerTree& tree, const LowerView* lower) {
    compare_tree(tree, tar_.get(), lower, directory->get());
  });
}

void LayerCheck::check_index(const VariantRecord& variant, const RelPath& name) {
  const auto st = maybe_stat_at(directory_.get(), name);
  if (!st) fail(Code::corrupt, "it is not there");
  if (!S_ISREG(st->st_mode)) fail(Code::corrupt, "it is no file");
  if (!variant.digest) fail(Code::corrupt, "the database has no digest of it");
  if (st->st_size == 0) fail(Code::corrupt, "it is empty");
  if (options_.is_fast) return;
  const UniqueFd index = open_at(directory_.get(), name, O_RDONLY);
  forget_cached(index.get());
  FdSource file(index.get());
  HashingSource hashed(file);
  drain(hashed);
  const Digest digest = hashed.digest();
  if (digest != *variant.digest)
    fail(Code::corrupt, "its digest is {}, not {}", digest.str(), variant.digest->str());
  use_tree(variant, [&](const LayerTree& tree, const LowerView*) {
    if (const Digest remade = digest_of(tree); remade != digest)
      fail(Code::corrupt, "it is not the index of the tar, which has the digest {}", remade.str());
  });
}

// Calls `use` with what the variant is made of, and the layers below if they have a say; not if
// that cannot be told, because the tar is damaged, or a layer below. These are damages of their
// own.
template <typename Use>
void LayerCheck::use_tree(const VariantRecord& variant, Use use) {
  if (!tree_) return;
  if (!layer_.record.depends_on_lower) return use(*tree_, nullptr);
  const auto parents = layer_.parents.find(variant.id);
  if (parents == layer_.parents.end()) return;
  for (const std::optional<int64_t>& parent : parents->second) {
    const std::optional<TreeOver> over = maybe_tree_over(variant, parent);
    if (over) return use(*over->tree, over->lower.get());
  }
}

// Nothing if the snapshot has gone, or a layer below it is damaged, or it was rebased, and the
// variant was made over something else.
std::optional<LayerCheck::TreeOver> LayerCheck::maybe_tree_over(const VariantRecord& variant,
                                                                std::optional<int64_t> parent) {
  try {
    TreeOver over;
    {
      Meta::Transaction transaction = store_.meta().read();
      over.below = store_.open_view(transaction, parent);
    }
    over.lower = std::make_unique<LowerView>(over.below.view);
    over.tree = tree_over(tar_.get(), layer_.record.tar_bytes, *over.lower);
    if (!is_named_for(variant, *over.tree)) return std::nullopt;
    return over;
  } catch (const Error& error) {
    if (error.code() == Code::resource_exhausted) throw;
    return std::nullopt;
  }
}

Digest LayerCheck::digest_of(const LayerTree& tree) const {
  const UniqueFd nowhere = open_root("/dev/null", O_WRONLY);
  return write_index(tree, tar_.get(),
                     {.diff_id = layer_.record.diff_id, .size_bytes = layer_.record.tar_bytes},
                     nowhere.get());
}

}  // namespace

std::vector<Damage> check_layer(Store& store, const LayerToCheck& layer,
                                const LayerCheckOptions& options) {
  return LayerCheck(store, layer, options).run();
}

bool is_named_for(const VariantRecord& variant, const LayerTree& tree) {
  const std::optional<Digest> lower = tree.lower_digest();
  if (variant.form == Form::packed)
    return !tree.has_lower_links() && index_name(lower) == variant.name;
  // A tree with links into lower layers is named for the chain, not for what is in it.
  if (tree.has_lower_links()) return true;
  return variant.name == (lower ? fmt::format("fs.{:.16}", lower->hex()) : "fs");
}

std::unique_ptr<LayerTree> tree_over(int tar, uint64_t size_bytes, const LowerView& lower) {
  const auto read = [&](const LowerNames* below) {
    auto tree = std::make_unique<LayerTree>(below);
    FileRangeSource source(tar, 0, size_bytes);
    (void)read_layer_tree(source, *tree);
    return tree;
  };
  std::unique_ptr<LayerTree> tree = read(nullptr);
  if (!tree->adopt_lower(lower)) tree = read(&lower);
  return tree;
}

}  // namespace veneer
