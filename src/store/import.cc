#include "store/import.h"

#include <algorithm>
#include <chrono>
#include <stop_token>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "layer/settle.h"
#include "layer/side_by_side.h"
#include "mount/erofs.h"
#include "store/recover.h"
#include "store/usage.h"
#include "stream/checksum.h"
#include "stream/compress.h"
#include "stream/verify.h"

namespace veneer {

namespace {

// What a layer still needs.
enum class Need { nothing, variant, layer };

struct Item {
  LayerBlob blob;
  size_t number = 0;  // in its chain, from 1
  Need need = Need::layer;
  std::optional<LayerRecord> record = {};  // the store has the layer
  std::optional<VariantRecord> variant = {};
  UniqueFd directory = {};  // below the import's staging directory, while something is needed
  StagedLayer staged = {};
  LayerRecord new_record = {};
  VariantRecord new_variant = {};
  bool is_settled = false;
  Import::Times times = {};
};

// Adds the time of its life to `seconds`.
class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
  }

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

LayerForm to_layer_form(Form form) {
  return form == Form::packed ? LayerForm::packed : LayerForm::directory;
}

RelPath item_name(size_t index) {
  return RelPath::parse_name(std::to_string(index), "layer");
}

// What decides about a variant's name, docs/FORMAT.md.
struct VariantKey {
  Form form = Form::packed;
  bool has_lower_links = false;
  std::optional<Digest> lower;
};

std::string variant_name(const VariantKey& key, const Digest& chain_below) {
  if (key.form == Form::packed) return index_name(key.lower);
  if (key.has_lower_links) return fmt::format("fs.{:.16}", chain_below.hex());
  return key.lower ? fmt::format("fs.{:.16}", key.lower->hex()) : "fs";
}

// Files on disk: blocks and inodes.
Usage measure_files(const std::vector<int>& files) {
  Usage usage{.size_bytes = 0, .inodes = files.size()};
  for (const int file : files)
    usage.size_bytes += static_cast<uint64_t>(stat_fd(file).st_blocks) * 512;
  return usage;
}

// A layer that is written, not read, is read back for its tree.
StagedLayer stage_written(const LayerBlob& blob, int directory, bool is_durable) {
  StagedLayer staged;
  staged.tar = open_at(directory, kLayerTarName, O_RDWR | O_CREAT | O_EXCL, 0400);
  FdSink file(staged.tar.get());
  Crc64Sink summed(file);
  HashingSink hashed(summed);
  blob.write(hashed);
  staged.info = {
      .diff_id = hashed.digest(), .size_bytes = hashed.count(), .checksum = summed.value()};
  FileRangeSource source(staged.tar.get(), 0, staged.info.size_bytes);
  staged.tree = std::make_unique<LayerTree>();
  staged.info.has_end_marker = read_layer_tree(source, *staged.tree);
  if (is_durable) sync_data(staged.tar.get());
  return staged;
}

class NoProgress final : public ImportProgress {
 public:
  void begin(size_t) override {}
  void add(size_t, uint64_t) override {}
  void exists(size_t) override {}
  void done(size_t) override {}
};

}  // namespace

struct Import::Impl {
  Impl(Store& a_store, std::optional<int64_t> a_parent, std::vector<LayerBlob> blobs,
       ImportProgress* a_progress)
      : store(a_store),
        parent(a_parent),
        progress(a_progress != nullptr ? *a_progress : no_progress) {
    for (LayerBlob& blob : blobs) items.push_back({.blob = std::move(blob)});
    layers.resize(items.size());
  }

  void stage();
  void put_over();
  void read_all(const std::function<void(size_t)>& take);
  void forget_lowers();
  void abandon();

  void look_up();
  void look_below(Meta::Transaction& transaction);
  void stage_item(size_t index, const std::stop_token& stop);
  StagedLayer read_blob(const Item& item, size_t index, const std::stop_token& stop) const;
  void settle_item(size_t index);
  void settle(Item& item, const LowerView* lower, const Digest& chain_below) const;
  void leave_unsettled(Item& item) const;
  void find_variant(Item& item, const LowerView& lower, const Digest& chain_below) const;

  View view_below(size_t index);
  UniqueFd open_lower(const Item& item) const;
  Digest chain_below(size_t index) const;

  bool is_still_there(Meta::Transaction& transaction) const;
  int64_t publish_layer(Meta::Transaction& transaction, size_t index);
  int64_t publish_variant(Meta::Transaction& transaction, Item& item, const LayerRecord& layer);

  // With which layer an error has to do.
  template <typename Call>
  void name_errors(const Item& item, Call&& call) const {
    try {
      call();
    } catch (Error& error) {
      std::string name = fmt::format("layer {}", item.number);
      if (item.blob.diff_id) name += fmt::format(" (sha256:{:.12})", item.blob.diff_id->hex());
      error.add_context(name);
      throw;
    }
  }
  bool is_durable() const { return !store.options().is_volatile; }

  NoProgress no_progress;
  Store& store;
  std::optional<int64_t> parent;
  ImportProgress& progress;
  std::vector<Item> items;
  std::vector<Layer> layers;
  Form form = Form::packed;
  std::optional<Digest> parent_chain;
  std::optional<StagingDir> staging;
  // What lies below, as far as layers asked for it.
  std::optional<Store::OpenedView> parent_view;
  std::vector<UniqueFd> lowers;  // of the first items
};

// What is below the first of the layers.
void Import::Impl::look_below(Meta::Transaction& transaction) {
  size_t number = 0;
  parent_chain.reset();
  if (parent) {
    const std::vector<SnapshotRecord> below = transaction.chain(*parent);
    number = below.size();
    for (auto snapshot = below.rbegin(); snapshot != below.rend(); ++snapshot) {
      // One that is no layer has no name that says its content: ids are never used again.
      const Digest content =
          snapshot->variant
              ? snapshot->variant->diff_id
              : Sha256::of(fmt::format("{} {}", store.meta().identity(), snapshot->id));
      parent_chain = chain_id(parent_chain, content);
    }
  }
  for (Item& item : items) item.number = ++number;
}

// What the store has already. One transaction: all of it was there at one time.
void Import::Impl::look_up() {
  Meta::Transaction transaction = store.meta().read();
  look_below(transaction);
  for (Item& item : items) {
    item = Item{.blob = std::move(item.blob), .number = item.number};
    if (!item.blob.diff_id) continue;
    item.record = transaction.maybe_layer(*item.blob.diff_id);
    if (!item.record) continue;
    item.need = Need::variant;
    if (item.record->depends_on_lower) continue;
    const std::vector<VariantRecord> variants = transaction.list_variants(item.record->id);
    auto variant = std::ranges::find(variants, form, &VariantRecord::form);
    // A layer in the other form is good, too: it was made for this store.
    if (variant == variants.end()) variant = variants.begin();
    if (variant == variants.end()) continue;  // its rows were lost
    item.variant = *variant;
    item.need = Need::nothing;
  }
}

StagedLayer Import::Impl::read_blob(const Item& item, size_t index,
                                    const std::stop_token& stop) const {
  const LayerBlob& blob = item.blob;
  if (blob.write) return stage_written(blob, item.directory.get(), is_durable());
  const std::unique_ptr<Source> stored = blob.open();
  uint64_t count = 0;
  CountingSource counted(*stored, [&](size_t bytes) {
    if (stop.stop_requested()) fail(Code::unavailable, "stopped");
    count += bytes;
    progress.add(index, bytes);
  });
  // Where both digests are the same one, the uncompressed stream's says all.
  std::optional<VerifyingSource> verified;
  if (blob.blob_digest && blob.blob_digest != blob.diff_id)
    verified.emplace(counted, *blob.blob_digest, "blob", blob.blob_size);
  DecompressingSource plain(verified ? static_cast<Source&>(*verified) : counted);
  LimitedSource limited(plain, limits::kLayerBytes, "layer");
  StagedLayer staged = stage_layer(limited, item.directory.get(), {.is_durable = is_durable()});
  if (blob.blob_size && count != *blob.blob_size)
    fail(Code::corrupt, "blob: has {} bytes, not {}", count, *blob.blob_size);
  if (blob.needs_end_marker && !staged.info.has_end_marker)
    fail(Code::corrupt, "the tar has no end: it is not whole");
  if (blob.diff_id && staged.info.diff_id != *blob.diff_id)
    fail(Code::corrupt, "uncompressed: the digest is {}, not {}", staged.info.diff_id.str(),
         blob.diff_id->str());
  return staged;
}

// On a thread of its own. What does not depend on the layers below is settled here, too.
void Import::Impl::stage_item(size_t index, const std::stop_token& stop) {
  Item& item = items[index];
  if (item.need != Need::layer) return;
  progress.begin(index);
  name_errors(item, [&] {
    const RelPath name = item_name(index);
    make_dir_at(staging->fd(), name, 0700);
    item.directory = open_dir_at(staging->fd(), name);
    {
      const Stopwatch watch(item.times.read);
      item.staged = read_blob(item, index, stop);
    }
    item.new_record = {.diff_id = item.staged.info.diff_id,
                       .tar_bytes = item.staged.info.size_bytes,
                       .file_bytes = item.staged.tree->file_bytes(),
                       .depends_on_lower = item.staged.tree->depends_on_lower(),
                       .checksum = item.staged.info.checksum};
    if (!item.new_record.depends_on_lower) settle(item, nullptr, {});
  });
}

void Import::Impl::settle(Item& item, const LowerView* lower, const Digest& chain_below) const {
  const Stopwatch watch(item.times.settle);
  if (item.blob.is_alone && item.staged.tree->has_lower_links()) return leave_unsettled(item);
  const int directory = item.directory.get();
  const SettledLayer settled = settle_layer(
      item.staged, directory, lower, {.form = to_layer_form(form), .is_durable = is_durable()});
  VariantRecord& variant = item.new_variant;
  variant.diff_id = item.staged.info.diff_id;
  variant.form = settled.form == LayerForm::packed ? Form::packed : Form::directory;
  variant.name = variant_name({.form = variant.form,
                               .has_lower_links = settled.has_lower_links,
                               .lower = settled.lower_digest},
                              chain_below);
  const RelPath name = RelPath::parse_name(variant.name, "variant");
  if (variant.form == Form::packed) {
    variant.digest = settled.index_digest;
    const UniqueFd index = open_at(directory, name, O_RDONLY);
    variant.usage = measure_files({item.staged.tar.get(), index.get()});
  } else {
    if (name != RelPath::parse_name(kLayerTreeName.c_str(), "tree"))
      rename_at(directory, kLayerTreeName, directory, name);
    variant.usage = measure_tree(open_dir_at(directory, name).get());
  }
  if (is_durable()) sync_fd(directory);
  item.staged = {};
  item.is_settled = true;
}

// The tar alone is kept; it is looked at again when the layers below are known.
void Import::Impl::leave_unsettled(Item& item) const {
  const RelPath name = RelPath::parse_name(kUnsettledTree, "variant");
  make_dir_at(item.directory.get(), name, 0755);
  VariantRecord& variant = item.new_variant;
  variant.diff_id = item.staged.info.diff_id;
  variant.form = Form::directory;
  variant.name = kUnsettledTree;
  variant.usage = measure_tree(open_dir_at(item.directory.get(), name).get());
  if (is_durable()) sync_fd(item.directory.get());
  item.staged = {};
  item.is_settled = true;
}

// A layer that the store has, over other lower layers, perhaps. Its tar tells which variant that
// takes; the store may have it.
void Import::Impl::find_variant(Item& item, const LowerView& lower,
                                const Digest& chain_below) const {
  const UniqueFd stored =
      open_dir_at(store.layout().layers(), Layout::digest_name(item.record->diff_id));
  StagedLayer& staged = item.staged;
  staged.tar = open_at(stored.get(), kLayerTarName, O_RDONLY);
  staged.info = {.diff_id = item.record->diff_id, .size_bytes = item.record->tar_bytes};
  const auto read_tree = [&](const LowerNames* below) {
    auto tree = std::make_unique<LayerTree>(below);
    FileRangeSource source(staged.tar.get(), 0, staged.info.size_bytes);
    (void)read_layer_tree(source, *tree);
    return tree;
  };
  if (item.blob.is_alone) staged.tree = read_tree(nullptr);
  if (!staged.tree || !staged.tree->has_lower_links()) staged.tree = read_tree(&lower);
  VariantKey key{.form = form,
                 .has_lower_links = staged.tree->has_lower_links(),
                 .lower = staged.tree->lower_digest()};
  if (key.has_lower_links) key.form = Form::directory;
  item.variant = store.meta().read().maybe_variant(item.record->id, variant_name(key, chain_below));
  if (item.variant) {
    item.need = Need::nothing;
    item.staged = {};
    return;
  }
  link_at(stored.get(), kLayerTarName, item.directory.get(), kLayerTarName);
  staged.tree = read_tree(nullptr);
  settle(item, &lower, chain_below);
}

// When all layers below are settled.
void Import::Impl::settle_item(size_t index) {
  Item& item = items[index];
  const bool was_there = item.need != Need::layer;
  name_errors(item, [&] {
    if (item.need == Need::variant) {
      const RelPath name = item_name(index);
      make_dir_at(staging->fd(), name, 0700);
      item.directory = open_dir_at(staging->fd(), name);
      const LowerView lower(view_below(index));
      find_variant(item, lower, chain_below(index));
    } else if (item.need == Need::layer && !item.is_settled) {
      const LowerView lower(view_below(index));
      settle(item, &lower, chain_below(index));
    }
  });
  const LayerRecord& record = was_there ? *item.record : item.new_record;
  layers[index] = {.diff_id = record.diff_id,
                   .file_bytes = record.file_bytes,
                   .existed = was_there,
                   .times = item.times};
  if (was_there)
    progress.exists(index);
  else
    progress.done(index);
}

// The chain below a layer as one digest: what decides about the content of lower files.
Digest Import::Impl::chain_below(size_t index) const {
  std::optional<Digest> chain = parent_chain;
  for (size_t below = 0; below < index; ++below) chain = chain_id(chain, layers[below].diff_id);
  return chain.value_or(Digest());
}

UniqueFd Import::Impl::open_lower(const Item& item) const {
  if (item.need == Need::nothing) return store.lowers().open(*item.variant);
  const RelPath name = RelPath::parse_name(item.new_variant.name, "variant");
  if (item.new_variant.form == Form::directory) return open_dir_at(item.directory.get(), name);
  const UniqueFd mount =
      mount_erofs(item.directory.get(), {.index = name, .device = kLayerTarName});
  return open_dir_at(mount.get(), ".");
}

View Import::Impl::view_below(size_t index) {
  if (!parent_view) {
    Meta::Transaction transaction = store.meta().read();
    parent_view = store.open_view(transaction, parent);
  }
  while (lowers.size() < index) lowers.push_back(open_lower(items[lowers.size()]));
  View view = parent_view->view;
  view.layers.clear();
  for (size_t below = index; below-- > 0;) view.layers.push_back(lowers[below].get());
  view.layers.insert(view.layers.end(), parent_view->view.layers.begin(),
                     parent_view->view.layers.end());
  return view;
}

void Import::Impl::stage() {
  read_all([this](size_t index) { settle_item(index); });
  forget_lowers();
}

void Import::Impl::put_over() {
  {
    Meta::Transaction transaction = store.meta().read();
    look_below(transaction);
  }
  for (size_t index = 0; index < items.size(); ++index) settle_item(index);
  forget_lowers();
}

void Import::Impl::read_all(const std::function<void(size_t)>& take) {
  abandon();
  form = store.form();
  look_up();
  staging.emplace(store.layout());
  std::vector<uint64_t> sizes;
  for (const Item& item : items)
    sizes.push_back(item.need == Need::layer ? item.blob.blob_size.value_or(0) : 0);
  run_side_by_side(
      sizes, layers_at_once(),
      {.work = [this](size_t index, const std::stop_token& stop) { stage_item(index, stop); },
       .take = take});
}

void Import::Impl::forget_lowers() {
  lowers.clear();
  parent_view.reset();
}

void Import::Impl::abandon() {
  forget_lowers();  // mounts of what is removed now
  for (Item& item : items) item.staged = {};
  staging.reset();
}

bool Import::Impl::is_still_there(Meta::Transaction& transaction) const {
  return std::ranges::all_of(items, [&](const Item& item) {
    if (item.need == Need::layer) return true;
    // A layer's variants go when it goes, and a new one has a new id.
    const auto layer = transaction.maybe_layer(item.record->diff_id);
    return layer && layer->id == item.record->id;
  });
}

int64_t Import::Impl::publish_layer(Meta::Transaction& transaction, size_t index) {
  Item& item = items[index];
  // Somebody may have been faster.
  if (const auto layer = transaction.maybe_layer(item.new_record.diff_id))
    return publish_variant(transaction, item, *layer);
  const Layout& layout = store.layout();
  const RelPath name = Layout::digest_name(item.new_record.diff_id);
  put_in_place(staging->fd(), item_name(index), layout.layers(), name);
  if (is_durable()) sync_fd(layout.layers());
  item.new_variant.layer = transaction.add_layer(item.new_record);
  return transaction.add_variant(item.new_variant);
}

int64_t Import::Impl::publish_variant(Meta::Transaction& transaction, Item& item,
                                      const LayerRecord& layer) {
  if (const auto variant = transaction.maybe_variant(layer.id, item.new_variant.name))
    return variant->id;
  const Layout& layout = store.layout();
  const UniqueFd directory = open_dir_at(layout.layers(), Layout::digest_name(layer.diff_id));
  const RelPath name = RelPath::parse_name(item.new_variant.name, "variant");
  put_in_place(item.directory.get(), name, directory.get(), name);
  if (is_durable()) sync_fd(directory.get());
  item.new_variant.layer = layer.id;
  return transaction.add_variant(item.new_variant);
}

Import::Import(Store& store, std::optional<int64_t> parent, std::vector<LayerBlob> layers,
               ImportProgress* progress)
    : impl_(std::make_unique<Impl>(store, parent, std::move(layers), progress)) {}

Import::~Import() = default;

void Import::stage() {
  // Again only if a layer has gone meanwhile that the store had: there are fewer each time.
  for (;;) {
    try {
      return impl_->stage();
    } catch (const Error&) {
      impl_->abandon();
      Meta::Transaction transaction = impl_->store.meta().read();
      if (impl_->is_still_there(transaction)) throw;
    } catch (...) {
      impl_->abandon();
      throw;
    }
  }
}

void Import::stage_ahead() {
  impl_->read_all([](size_t) {});
}

void Import::put_over(std::optional<int64_t> parent, bool is_alone) {
  impl_->parent = parent;
  for (Item& item : impl_->items) item.blob.is_alone = is_alone;
  // What the store had when it was looked at may have gone.
  if (impl_->items.front().need != Need::layer) return stage();
  impl_->put_over();
}

bool Import::publish(Meta::Transaction& transaction) {
  Impl& impl = *impl_;
  if (!impl.is_still_there(transaction)) return false;
  for (size_t index = 0; index < impl.items.size(); ++index) {
    Item& item = impl.items[index];
    int64_t& variant = impl.layers[index].variant;
    switch (item.need) {
      case Need::nothing:
        variant = item.variant->id;
        break;
      case Need::variant:
        variant = impl.publish_variant(transaction, item, *item.record);
        break;
      case Need::layer:
        variant = impl.publish_layer(transaction, index);
        break;
    }
  }
  return true;
}

const std::vector<Import::Layer>& Import::layers() const {
  return impl_->layers;
}

VariantRecord published_variant(Meta::Transaction& transaction, const Import::Layer& layer) {
  if (const auto record = transaction.maybe_layer(layer.diff_id))
    for (const VariantRecord& variant : transaction.list_variants(record->id))
      if (variant.id == layer.variant) return variant;
  fail(Code::corrupt, "layer {} is not there", layer.diff_id.str());
}

std::optional<int64_t> add_chain(Meta::Transaction& transaction, std::string_view space,
                                 const std::vector<Import::Layer>& layers) {
  std::optional<int64_t> top;
  std::optional<Digest> chain;
  std::string parent_name;
  for (const Import::Layer& layer : layers) {
    chain = chain_id(chain, layer.diff_id);
    std::string name = chain->str();
    if (const auto snapshot = transaction.maybe_snapshot(space, name)) {
      top = snapshot->id;
    } else {
      SnapshotRecord record;
      record.space = space;
      record.info.name = name;
      record.info.parent = parent_name;
      record.info.kind = Kind::committed;
      record.info.created = record.info.updated = now();
      record.parent = top;
      record.variant = published_variant(transaction, layer);
      record.usage = record.variant->usage;
      top = transaction.add_snapshot(record);
    }
    parent_name = std::move(name);
  }
  return top;
}

}  // namespace veneer
