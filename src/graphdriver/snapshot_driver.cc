#include "graphdriver/snapshot_driver.h"

#include <sys/utsname.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "graphdriver/id_lock.h"
#include "graphdriver/trash_thread.h"
#include "mount/mapped_overlay.h"
#include "mount/mount.h"
#include "store/local.h"
#include "store/one_layer.h"
#include "store/recover.h"
#include "store/store.h"
#include "store/usage.h"

namespace veneer {

namespace {

constexpr std::string_view kVeneerName = "veneer";
constexpr std::string_view kSpace = "driver";
constexpr std::string_view kViewPrefix = "view/";
constexpr std::string_view kFormOption = "veneer.form";
constexpr std::string_view kVolatileOption = "veneer.volatile";
constexpr mode_t kPassMode = 0711;  // with id maps

void parse_option(std::string_view option, StoreOptions& options) {
  const size_t equals = option.find('=');
  const std::string_view key = option.substr(0, equals);
  const std::string_view value = equals == option.npos ? "" : option.substr(equals + 1);
  if (key == kVolatileOption && (value == "true" || value == "false")) {
    options.is_volatile = value == "true";
  } else if (key == kFormOption && (value == "packed" || value == "directory")) {
    options.form = value == "packed" ? Form::packed : Form::directory;
  } else if (key == kVolatileOption || key == kFormOption) {
    fail(Code::invalid_argument, "option {} is \"{}\"; it takes {}", key, value,
         key == kFormOption ? "packed or directory" : "true or false");
  } else {
    fail(Code::invalid_argument, "unknown option \"{}\"; veneer knows {} and {}", key, kFormOption,
         kVolatileOption);
  }
}

StoreOptions store_options(const DriverOptions& options) {
  StoreOptions store{.root = options.home, .run = options.run, .is_volatile = false, .form = {}};
  for (const std::string& option : options.options) parse_option(option, store);
  // Before the store is made: there must be a root inside.
  for (const IdMap* const map : {&options.id_maps.uids, &options.id_maps.gids})
    (void)map->to_host(0);
  return store;
}

std::string view_key(std::string_view id) {
  return fmt::format("{}{}", kViewPrefix, id);
}

class SnapshotDriver final : public Driver {
 public:
  explicit SnapshotDriver(const DriverOptions& options)
      : store_(store_options(options)),
        snapshotter_(open_snapshotter(store_, kSpace)),
        locks_(options.run, kVeneerName, store_.layout().path()),
        id_maps_(options.id_maps),
        trash_(store_.layout()) {
    if (id_maps_.is_identity()) return;
    check_id_maps();
    let_root_inside_pass();
  }

  std::string_view name() const override { return kVeneerName; }
  // Each layer that apply_diff() made has its tar.
  Capabilities capabilities() const override { return {.reproduces_exact_diffs = true}; }
  std::vector<std::pair<std::string, std::string>> status() const override;
  std::map<std::string, std::string> metadata(std::string_view id) const override;
  bool exists(std::string_view id) const override;
  std::vector<std::string> list() const override;
  void create(std::string_view id, std::string_view parent, const CreateOptions& options) override;
  void create_read_write(std::string_view id, std::string_view parent,
                         const CreateOptions& options) override {
    create(id, parent, options);
  }
  uint64_t add_layer(std::string_view id, std::string_view parent, Source& tar) override;
  void remove(std::string_view id) override;
  std::string get(std::string_view id, std::string_view mount_label) override;
  void put(std::string_view id) override;
  void cleanup() override { empty_trash(store_.layout()); }
  uint64_t apply_diff(std::string_view id, std::string_view parent, Source& tar) override;
  void diff(std::string_view id, std::string_view parent, Sink& to) override;
  std::vector<Change> changes(std::string_view id, std::string_view parent) override;
  uint64_t diff_size(std::string_view id, std::string_view parent) override;

 private:
  struct Views {
    Store::OpenedView now;
    std::optional<Store::OpenedView> before;

    std::optional<View> before_view() const {
      return before ? std::optional(before->view) : std::nullopt;
    }
  };

  SnapshotRecord find(Meta::Transaction& transaction, std::string_view id) const;
  SnapshotRecord read(std::string_view id) const;
  SnapshotRecord read_existing(const RelPath& id, IdLock& lock) const;
  bool is_mounted(int64_t snapshot) const;
  std::optional<int64_t> ready_parent(std::string_view parent);
  void commit_in_place(const RelPath& id);
  void check_id_maps() const;
  void let_root_inside_pass() const;
  std::string mount(std::string_view key, std::string_view label) const;
  Views open_views(std::string_view id, std::string_view parent) const;

  // Looking is no change, but the store's calls do not tell.
  mutable Store store_;
  std::unique_ptr<Snapshotter> snapshotter_;
  IdLocks locks_;
  IdMaps id_maps_;
  TrashThread trash_;
};

// --- id maps ---

// Before a layer is made that cannot be mounted. Throws unsupported.
void SnapshotDriver::check_id_maps() const {
  const StagingDir staging(store_.layout());
  for (const PathView name : {kUpperName, kWorkName, kMergedName})
    make_dir_at(staging.fd(), name, 0700);
  const std::string path = path_of(staging.fd()) + "/";
  (void)mount_mapped_overlay(
      {.lower = {path + kMergedName.c_str()},
       .upper = path + kUpperName.c_str(),
       .work = path + kWorkName.c_str()},
      {.lower = {id_maps_},
       .upper = {.uids = id_maps_.uids.with_host_root(), .gids = id_maps_.gids.with_host_root()}});
}

// The root of the containers, and nobody else, gets to what is mounted below. (A snapshot's own
// directory keeps its group: it is in the mapped mount, which has no other.)
void SnapshotDriver::let_root_inside_pass() const {
  const int home = store_.layout().root();
  chown_fd(home, static_cast<uid_t>(-1), id_maps_.gids.to_host(0));
  chmod_fd(home, kHomeMode);
  chmod_fd(store_.layout().snapshots(), kPassMode);
}

// --- looking ---

SnapshotRecord SnapshotDriver::find(Meta::Transaction& transaction, std::string_view id) const {
  const RelPath name = parse_id(id);
  auto snapshot = transaction.maybe_snapshot(kSpace, name.str());
  if (!snapshot) fail(Code::not_found, "no layer has the id {}", name.str());
  return std::move(*snapshot);
}

SnapshotRecord SnapshotDriver::read(std::string_view id) const {
  Meta::Transaction transaction = store_.meta().read();
  return find(transaction, id);
}

SnapshotRecord SnapshotDriver::read_existing(const RelPath& id, IdLock& lock) const {
  Meta::Transaction transaction = store_.meta().read();
  auto snapshot = transaction.maybe_snapshot(kSpace, id.str());
  if (!snapshot) {
    lock.forget();
    fail(Code::not_found, "no layer has the id {}", id.str());
  }
  return std::move(*snapshot);
}

bool SnapshotDriver::is_mounted(int64_t snapshot) const {
  return is_mount_point_at(store_.layout().snapshots(),
                           Layout::snapshot_name(snapshot) / kMergedName.c_str());
}

std::vector<std::pair<std::string, std::string>> SnapshotDriver::status() const {
  utsname kernel{};
  check(uname(&kernel), "uname");
  const std::string& why_not = store_.why_not_packed();
  std::string form = store_.form() == Form::packed ? "packed" : "directory";
  if (!why_not.empty()) form += fmt::format(" ({})", why_not);
  return {
      {"Root", store_.layout().path()},
      {"Form of Layers", form},
      {"Backing Filesystem", file_system_name(file_system_magic_at(store_.layout().root(), "."))},
      {"Volatile", store_.options().is_volatile ? "true" : "false"},
      {"Kernel", kernel.release}};
}

std::map<std::string, std::string> SnapshotDriver::metadata(std::string_view id) const {
  Meta::Transaction transaction = store_.meta().read();
  const SnapshotRecord snapshot = find(transaction, id);
  const std::string directory = store_.layout().snapshot_path(snapshot.id);
  if (snapshot.variant)
    return {{"DiffID", snapshot.variant->diff_id.str()},
            {"Form", snapshot.variant->form == Form::packed ? "packed" : "directory"},
            {"LayerDir", store_.layout().layer_path(snapshot.variant->diff_id)}};
  std::map<std::string, std::string> parts{
      {"UpperDir", fmt::format("{}/{}", directory, kUpperName.c_str())}};
  if (snapshot.parent)
    parts["LowerDir"] =
        fmt::format("{}", fmt::join(store_.lower_paths(transaction, *snapshot.parent), ":"));
  if (snapshot.info.kind == Kind::active) {
    parts["WorkDir"] = fmt::format("{}/{}", directory, kWorkName.c_str());
    parts["MergedDir"] = fmt::format("{}/{}", directory, kMergedName.c_str());
  }
  return parts;
}

bool SnapshotDriver::exists(std::string_view id) const {
  const RelPath name = parse_id(id);
  return store_.meta().read().maybe_snapshot(kSpace, name.str()).has_value();
}

std::vector<std::string> SnapshotDriver::list() const {
  Meta::Transaction transaction = store_.meta().read();
  std::vector<std::string> ids;
  transaction.for_each_snapshot(kSpace, [&](const SnapshotRecord& snapshot) {
    if (!snapshot.info.name.starts_with(kViewPrefix)) ids.push_back(snapshot.info.name);
  });
  std::ranges::sort(ids);
  return ids;
}

// --- creating and removing ---

// An active snapshot becomes a committed one of the same id, so that it can have children.
void SnapshotDriver::commit_in_place(const RelPath& id) {
  IdLock lock = locks_.lock(id, IdLock::Mode::exclusive);
  const SnapshotRecord seen = read_existing(id, lock);
  if (seen.info.kind == Kind::committed) return;
  if (is_mounted(seen.id))
    fail(Code::failed_precondition, "the parent {} is mounted: put it first", id.str());
  const UniqueFd directory =
      open_dir_at(store_.layout().snapshots(), Layout::snapshot_name(seen.id));
  const UniqueFd upper = open_dir_at(directory.get(), kUpperName);
  const Usage usage = measure_tree(upper.get());
  if (!store_.options().is_volatile) sync_tree(upper.get(), usage);
  Meta::Transaction transaction = store_.meta().write();
  SnapshotRecord snapshot = find(transaction, id.str());  // as locked
  snapshot.info.kind = Kind::committed;
  snapshot.info.updated = now();
  snapshot.usage = usage;
  transaction.update_snapshot(snapshot);
  transaction.commit();
}

// The snapshot of a parent, committed. not_found.
std::optional<int64_t> SnapshotDriver::ready_parent(std::string_view parent) {
  if (parent.empty()) return std::nullopt;
  const RelPath name = parse_id(parent);
  if (read(parent).info.kind != Kind::committed) commit_in_place(name);
  return read(parent).id;
}

void SnapshotDriver::create(std::string_view id, std::string_view parent,
                            const CreateOptions& options) {
  const RelPath name = parse_id(id);
  for (const auto& [key, value] : options.storage_options)
    fail(Code::invalid_argument, "unknown storage option \"{}\": veneer knows none for a layer",
         key);
  if (exists(id)) fail(Code::already_exists, "a layer has the id {} already", id);
  (void)ready_parent(parent);
  (void)snapshotter_->prepare(name.str(), parent, {});
}

// Makes `snapshot` a committed one of this content.
void publish_as(OneLayer& layer, Meta::Transaction& transaction, SnapshotRecord& snapshot) {
  snapshot.variant = layer.publish(transaction);
  VENEER_CHECK(snapshot.variant.has_value());  // none only for layers that were there before
  snapshot.usage = snapshot.variant->usage;
  snapshot.info.kind = Kind::committed;
  snapshot.info.updated = now();
}

uint64_t SnapshotDriver::add_layer(std::string_view id, std::string_view parent, Source& tar) {
  const RelPath name = parse_id(id);
  if (exists(id)) fail(Code::already_exists, "a layer has the id {} already", id);
  const std::optional<int64_t> below = ready_parent(parent);
  OneLayer layer(store_, below, blob_of(tar));
  Meta::Transaction transaction = store_.meta().write();
  if (below && find(transaction, parent).id != *below)
    fail(Code::not_found, "the parent {} was removed meanwhile", parent);
  OrphanGuard orphans(store_.open_mark());
  SnapshotRecord snapshot;
  snapshot.space = kSpace;
  snapshot.info.name = name.str();
  snapshot.info.parent = parent;
  snapshot.info.created = now();
  snapshot.parent = below;
  publish_as(layer, transaction, snapshot);
  (void)transaction.add_snapshot(snapshot);
  transaction.commit();
  orphans.done();
  return layer.layer().file_bytes;
}

// Rows first, that of the layer's view with it; then mounts and files.
void SnapshotDriver::remove(std::string_view id) {
  const RelPath name = parse_id(id);
  IdLock lock = locks_.lock(name, IdLock::Mode::exclusive);
  (void)read_existing(name, lock);
  Meta::Transaction transaction = store_.meta().write();
  const SnapshotRecord snapshot = find(transaction, id);
  const auto view = transaction.maybe_snapshot(kSpace, view_key(id));
  if (view) transaction.remove_snapshot(view->id);
  if (transaction.has_children(snapshot.id))
    fail(Code::failed_precondition, "layer {} has others on top of it: remove those first", id);
  transaction.remove_snapshot(snapshot.id);
  OrphanGuard orphans(store_.open_mark());
  store_.collect(std::move(transaction));  // commits
  lock.forget();
  if (view) store_.discard_snapshot(view->id);
  store_.discard_snapshot(snapshot.id);
  orphans.done();
  trash_.wake();
}

// --- mounting ---

// As Store::mount(), with a label, which only an overlay can have, and with the ids mapped.
std::string SnapshotDriver::mount(std::string_view key, std::string_view label) const {
  Meta::Transaction transaction = store_.meta().read();
  const SnapshotRecord snapshot = require_snapshot(transaction, kSpace, key);
  MountPlan plan = plan_mount(store_, transaction, snapshot);
  plan.overlay.label = label;
  plan.id_maps = id_maps_;
  if (!id_maps_.is_identity())
    chmod_fd(store_.layout().open_snapshot(snapshot.id).get(), kPassMode);
  return mount_snapshot(store_, snapshot.id, plan);
}

std::string SnapshotDriver::get(std::string_view id, std::string_view mount_label) {
  const RelPath name = parse_id(id);
  IdLock lock = locks_.lock(name, IdLock::Mode::exclusive);
  SnapshotRecord snapshot = read_existing(name, lock);
  if (snapshot.info.kind == Kind::committed) {
    const std::string key = view_key(id);
    if (!store_.meta().read().maybe_snapshot(kSpace, key)) (void)snapshotter_->view(key, id, {});
    Meta::Transaction transaction = store_.meta().read();
    snapshot = require_snapshot(transaction, kSpace, key);
  }
  const uint64_t count = is_mounted(snapshot.id) ? lock.count() : 0;
  std::string path = mount(snapshot.info.name, mount_label);
  lock.set_count(count + 1);
  return path;
}

void SnapshotDriver::put(std::string_view id) {
  const RelPath name = parse_id(id);
  IdLock lock = locks_.lock(name, IdLock::Mode::exclusive);
  const SnapshotRecord snapshot = read_existing(name, lock);
  const bool is_committed = snapshot.info.kind == Kind::committed;
  const std::string key = is_committed ? view_key(id) : name.str();
  const auto mounted = store_.meta().read().maybe_snapshot(kSpace, key);
  if (!mounted) return lock.set_count(0);
  const uint64_t count = lock.count();
  if (count > 1 && is_mounted(mounted->id)) return lock.set_count(count - 1);
  (void)store_.unmount(kSpace, key);
  if (is_committed) {
    snapshotter_->remove(key);
    trash_.wake();
  }
  lock.set_count(0);
}

// --- applying and comparing ---

uint64_t SnapshotDriver::apply_diff(std::string_view id, std::string_view parent, Source& tar) {
  const RelPath name = parse_id(id);
  IdLock lock = locks_.lock(name, IdLock::Mode::exclusive);
  const SnapshotRecord seen = read_existing(name, lock);
  if (seen.info.kind != Kind::active)
    fail(Code::failed_precondition, "layer {} has its content already", id);
  if (seen.info.parent != parent)
    fail(Code::invalid_argument, "layer {} was made over \"{}\", not \"{}\"", id, seen.info.parent,
         parent);
  if (is_mounted(seen.id)) fail(Code::failed_precondition, "layer {} is mounted: put it first", id);
  const UniqueFd directory =
      open_dir_at(store_.layout().snapshots(), Layout::snapshot_name(seen.id));
  if (DirReader(open_dir_at(directory.get(), kUpperName).get()).next())
    fail(Code::failed_precondition, "something was written to layer {}: apply to a new one", id);
  LayerBlob blob = blob_of(tar);
  blob.needs_end_marker = true;
  OneLayer layer(store_, seen.parent, std::move(blob));
  Meta::Transaction transaction = store_.meta().write();
  SnapshotRecord snapshot = find(transaction, id);  // as locked
  OrphanGuard orphans(store_.open_mark());
  publish_as(layer, transaction, snapshot);
  transaction.update_snapshot(snapshot);
  transaction.commit();
  store_.discard_snapshot(snapshot.id);
  orphans.done();
  trash_.wake();
  return layer.layer().file_bytes;
}

// Nothing is locked while trees are read and a sink waits: what is removed meanwhile stays open.
SnapshotDriver::Views SnapshotDriver::open_views(std::string_view id,
                                                 std::string_view parent) const {
  Meta::Transaction transaction = store_.meta().read();
  Views views;
  views.now = store_.open_view(transaction, find(transaction, id).id);
  if (!parent.empty()) views.before = store_.open_view(transaction, find(transaction, parent).id);
  return views;
}

void SnapshotDriver::diff(std::string_view id, std::string_view parent, Sink& to) {
  const SnapshotRecord snapshot = read(id);
  if (snapshot.variant && snapshot.info.parent == parent)
    return store_.write_layer(snapshot.id, to);
  const Views views = open_views(id, parent);
  // What the host's root left is in no layer.
  const IdMaps inside{.uids = id_maps_.uids.inside(), .gids = id_maps_.gids.inside()};
  write_diff(views.now.view, views.before_view(), {.id_maps = inside, .epoch = {}}, to);
}

std::vector<Change> SnapshotDriver::changes(std::string_view id, std::string_view parent) {
  const Views views = open_views(id, parent);
  return list_changes(views.now.view, views.before_view());
}

uint64_t SnapshotDriver::diff_size(std::string_view id, std::string_view parent) {
  const Views views = open_views(id, parent);
  return veneer::diff_size(views.now.view, views.before_view());
}

}  // namespace

std::unique_ptr<Driver> open_snapshot_driver(const DriverOptions& options) {
  return std::make_unique<SnapshotDriver>(options);
}

}  // namespace veneer
