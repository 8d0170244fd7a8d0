#include "store/recover.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/lock.h"
#include "layer/settle.h"
#include "mount/mount.h"
#include "store/local.h"
#include "store/lowers.h"
#include "store/meta.h"
#include "store/meta_check.h"
#include "store/store.h"

namespace veneer {

namespace {

constexpr PathView kOpenedName = "opened";

std::set<std::string> snapshot_names(Meta::Transaction& transaction) {
  std::set<std::string> names;
  transaction.for_each_snapshot(
      "", [&](const SnapshotRecord& snapshot) { names.insert(std::to_string(snapshot.id)); });
  return names;
}

// Nothing for names that are not of our making: they are left alone.
std::optional<int64_t> maybe_id(std::string_view name) {
  int64_t id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error != std::errc() || std::to_string(id) != name) return std::nullopt;
  return id;
}

void clear_orphan_blobs(Meta::Transaction& transaction, const Layout& layout) {
  std::set<std::string> blobs;
  for (const Digest& blob : transaction.list_blobs()) blobs.insert(blob.hex());
  for (const std::string& name : list_dir(layout.blobs()))
    if (!blobs.contains(name))
      discard_if_there(layout, layout.blobs(), RelPath::parse_name(name, "blob"));
}

// A variant is published beside those that its layer has.
void clear_orphan_variants(const Layout& layout, const LayerRecord& layer,
                           const std::vector<VariantRecord>& variants) {
  const auto directory = maybe_open_dir_at(layout.layers(), Layout::digest_name(layer.diff_id));
  if (!directory) return;
  for (const std::string& name : list_dir(directory->get()))
    if (name != kLayerTarName.c_str() &&
        std::ranges::find(variants, name, &VariantRecord::name) == variants.end())
      discard_if_there(layout, directory->get(), RelPath::parse_name(name, "variant"));
}

void clear_orphans(Meta::Transaction& transaction, const Layout& layout, Lowers& lowers) {
  clear_orphan_blobs(transaction, layout);
  const std::set<std::string> snapshots = snapshot_names(transaction);
  for (const std::string& name : list_dir(layout.snapshots()))
    if (const auto id = maybe_id(name); id && !snapshots.contains(name))
      discard_snapshot(layout, *id);
  std::set<std::string> layers;
  std::set<std::string> variants;
  for (const LayerRecord& layer : transaction.list_layers()) {
    layers.insert(layer.diff_id.hex());
    const std::vector<VariantRecord> of_layer = transaction.list_variants(layer.id);
    for (const VariantRecord& variant : of_layer) variants.insert(std::to_string(variant.id));
    clear_orphan_variants(layout, layer, of_layer);
  }
  for (const std::string& name : list_dir(layout.layers()))
    if (!layers.contains(name))
      discard_if_there(layout, layout.layers(), RelPath::parse_name(name, "layer"));
  for (const std::string& name : list_dir(open_root(lowers.directory()).get()))
    if (const auto id = maybe_id(name); id && !variants.contains(name)) lowers.release(*id);
}

// A committed one has been synced. Where the directory is there all of it is: it came by one
// rename.
void restore_new_snapshots(Store& store, Meta::Transaction& transaction) {
  transaction.for_each_snapshot("", [&](const SnapshotRecord& snapshot) {
    if (snapshot.info.kind == Kind::committed || snapshot.variant) return;
    if (exists_at(store.layout().snapshots(), Layout::snapshot_name(snapshot.id))) return;
    try {
      make_snapshot_directory(store, snapshot, plan_mount(store, transaction, snapshot));
    } catch (const Error&) {
      // A layer below may be damaged. The others are of use without this one; check_store() names
      // it.
    }
  });
}

bool is_damaged(const Layout& layout) {
  try {
    return !find_broken_references(layout).empty();
  } catch (const Error& error) {
    if (error.code() != Code::corrupt) throw;
    return true;
  }
}

// What cannot be deleted is no reason not to open the store.
void try_empty_trash(const Layout& layout) {
  try {
    empty_trash(layout);
  } catch (const Error&) {
  }
}

}  // namespace

OpenMark::OpenMark(const Layout& layout, bool is_volatile) : layout_(layout) {
  (void)try_make_dir_at(layout.root(), kOpenedName, 0700);
  dir_ = open_dir_at(layout.root(), kOpenedName);
  is_durable_ = is_volatile || layout.is_journal_in_order();
  // Another process may take it for one of the dead before it is locked: then make another.
  do {
    try {
      make();
    } catch (const SysError& error) {
      // Without a mark on a full disk: or nobody could look at what is there, or remove it.
      if (!is_about_room(error.error_number())) throw;
      name_ = RelPath();
      return;
    }
  } while (!try_lock_fd(lock_.get()) || !exists_at(dir_.get(), name_));
}

OpenMark::~OpenMark() {
  try {
    if (is_kept_ && name_.empty()) make();
    if (!is_kept_ && !name_.empty()) unlink_at(dir_.get(), name_);
  } catch (const Error&) {
    // The next process looks for orphans in vain; or, if the disk is full still, only `check` does.
  }
}

void OpenMark::make_durable() {
  if (is_durable_) return;
  // All of it: syncing the names here alone could make the end of another's mark durable, and not
  // the removal before it.
  sync_file_system(dir_.get());
  is_durable_ = true;
}

bool OpenMark::covers_new_snapshots() {
  if (!layout_.is_journal_in_order() || name_.empty()) return false;
  // All that goes before it is in the journal, too.
  if (!is_synced_) sync_fd(lock_.get());
  is_synced_ = true;
  return true;
}

void OpenMark::make() {
  name_ = RelPath::parse_name(random_name(), "mark");
  lock_ = open_at(dir_.get(), name_, O_RDWR | O_CREAT | O_EXCL, 0600);
}

std::vector<OpenMark::Dead> OpenMark::find_dead() const {
  std::vector<Dead> dead;
  for (const std::string& text : list_dir(dir_.get())) {
    RelPath name = RelPath::parse_name(text, "mark");
    auto lock = maybe_open_at(dir_.get(), name, O_RDWR);
    if (lock && try_lock_fd(lock->get())) dead.push_back({std::move(name), std::move(*lock)});
  }
  return dead;
}

void OpenMark::forget_dead(const std::vector<Dead>& dead) const {
  for (const Dead& one : dead) (void)remove_tree_at(dir_.get(), one.name);
}

void recover(Store& store) {
  const std::vector<OpenMark::Dead> dead = store.open_mark().find_dead();
  if (dead.empty()) return;
  // What has no row may be what a damaged database lost: repair_store() can make use of it.
  if (is_damaged(store.layout())) return;
  {
    // Nothing is written: it keeps publishers out.
    Meta::Transaction transaction = store.meta().write();
    clear_orphans(transaction, store.layout(), store.lowers());
    restore_new_snapshots(store, transaction);
  }
  if (!store.options().leaves_trash) try_empty_trash(store.layout());
  store.open_mark().forget_dead(dead);
}

void put_in_place(int from_dir, PathView from, int to_dir, PathView to) {
  if (exists_at(to_dir, to)) {
    exchange_at(from_dir, from, to_dir, to);
  } else {
    rename_at(from_dir, from, to_dir, to);
  }
}

void discard_if_there(const Layout& layout, int dir, const RelPath& name) {
  if (!exists_at(dir, name)) return;
  try {
    layout.discard(dir, name);
  } catch (const SysError& error) {
    if (error.error_number() != ENOENT) throw;
  }
}

void discard_snapshot(const Layout& layout, int64_t id) {
  const RelPath name = Layout::snapshot_name(id);
  if (const auto snapshot = maybe_open_dir_at(layout.snapshots(), name))
    while (unmount_at(snapshot->get(), kMergedName, Unmount::detach)) continue;
  discard_if_there(layout, layout.snapshots(), name);
}

}  // namespace veneer
