#include "store/local.h"

#include <algorithm>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "layer/file_writer.h"
#include "store/filter.h"
#include "store/one_layer.h"
#include "store/recover.h"
#include "store/usage.h"

namespace veneer {

namespace {

constexpr size_t kWalkedAtOnce = 100;
constexpr std::string_view kLabels = "labels";
constexpr std::string_view kLabelPrefix = "labels.";

// Xattrs of a directory that its copy in another layer must not have: overlayfs's marks, and the
// label that the host's policy gives each file.
constexpr std::string_view kLocalXattrs[] = {"trusted.overlay.", "user.overlay.",
                                             "security.selinux"};

void check_key(std::string_view key, std::string_view what) {
  if (key.empty()) fail(Code::invalid_argument, "an empty {}", what);
  if (key.size() > limits::kSnapshotKeyBytes)
    fail(Code::invalid_argument, "a {} of {} bytes; {} are allowed", what, key.size(),
         limits::kSnapshotKeyBytes);
}

void check_labels(const Labels& labels) {
  size_t all = 0;
  for (const auto& [key, value] : labels) {
    const size_t size = key.size() + value.size();
    if (size > limits::kLabelBytes)
      fail(Code::invalid_argument, "label {} has {} bytes; {} are allowed", key.substr(0, 64), size,
           limits::kLabelBytes);
    all += size;
  }
  if (all > limits::kLabelsBytes)
    fail(Code::invalid_argument, "labels of {} bytes; {} are allowed", all, limits::kLabelsBytes);
}

// The committed snapshot of that name. not_found; `not_committed` for another kind.
SnapshotRecord require_parent(Meta::Transaction& transaction, std::string_view space,
                              std::string_view name, Code not_committed) {
  auto parent = transaction.maybe_snapshot(space, name);
  if (!parent) fail(Code::not_found, "the parent {} does not exist", name);
  if (parent->info.kind != Kind::committed)
    fail(not_committed, "the parent {} is not committed", name);
  return std::move(*parent);
}

// The top of an upper is the top of the merged tree, so it takes after the one below.
void copy_root(const std::string& from, int to) {
  const UniqueFd lower = open_root(from);
  const struct stat st = stat_fd(lower.get());
  set_owner_and_mode_fd(to, st.st_uid, st.st_gid, st.st_mode & 07777U);
  for (const Xattr& xattr : read_xattrs_at(lower.get(), "."))
    if (std::ranges::none_of(
            kLocalXattrs, [&](std::string_view prefix) { return xattr.name.starts_with(prefix); }))
      set_xattr_at(to, ".", xattr.name.c_str(), xattr.value);
}

void fill_snapshot(int dir, Kind kind, const MountPlan& plan) {
  make_dir_at(dir, kUpperName, 0755);
  if (kind != Kind::active) return;
  make_dir_at(dir, kWorkName, 0700);
  if (!plan.overlay.lower.empty())
    copy_root(plan.overlay.lower.front(), open_dir_at(dir, kUpperName).get());
}

Mount to_mount(const MountPlan& plan) {
  if (plan.bind.empty()) return to_mount(plan.overlay);
  return {
      .type = "bind", .source = plan.bind, .options = {plan.is_read_only ? "ro" : "rw", "rbind"}};
}

void replace_labels(Labels& stored, const Labels& given, const std::vector<std::string>& fields) {
  if (fields.empty()) stored = given;
  for (const std::string& field : fields) {
    if (field == kLabels) {
      stored = given;
      continue;
    }
    if (!field.starts_with(kLabelPrefix))
      fail(Code::invalid_argument, "{} cannot be changed: only labels can", field);
    const std::string key = field.substr(kLabelPrefix.size());
    if (const auto label = given.find(key); label != given.end())
      stored[key] = label->second;
    else
      stored.erase(key);
  }
}

class LocalSnapshotter final : public Snapshotter {
 public:
  LocalSnapshotter(Store& store, std::string_view space) : store_(store), space_(space) {
    if (space_.empty()) fail(Code::invalid_argument, "a snapshotter needs the name of a space");
  }

  SnapshotInfo stat(std::string_view key) override;
  SnapshotInfo update(const SnapshotInfo& info, const std::vector<std::string>& fields) override;
  Usage usage(std::string_view key) override;
  std::vector<Mount> mounts(std::string_view key) override;
  std::vector<Mount> prepare(std::string_view key, std::string_view parent,
                             const Labels& labels) override {
    return make(Kind::active, key, parent, labels);
  }
  std::vector<Mount> view(std::string_view key, std::string_view parent,
                          const Labels& labels) override {
    return make(Kind::view, key, parent, labels);
  }
  void commit(std::string_view name, std::string_view key, const CommitOptions& options) override;
  void remove(std::string_view key) override;
  void walk(const std::vector<std::string>& filters,
            const std::function<void(const SnapshotInfo&)>& visit) override;
  void cleanup() override { empty_trash(store_.layout(), DeletedByOthers::awaited); }

 private:
  std::vector<Mount> make(Kind kind, std::string_view key, std::string_view parent,
                          const Labels& labels);
  // The active snapshot, with the parent that it will have.
  struct Committable {
    SnapshotRecord snapshot;
    bool is_rebased = false;  // it had none
  };
  Committable require_committable(Meta::Transaction& transaction, std::string_view name,
                                  std::string_view key, const CommitOptions& options) const;
  Usage settle(const SnapshotRecord& active) const;
  std::optional<OneLayer> maybe_repack(const Committable& committed) const;

  Store& store_;
  std::string space_;
};

SnapshotInfo LocalSnapshotter::stat(std::string_view key) {
  Meta::Transaction transaction = store_.meta().read();
  return require_snapshot(transaction, space_, key).info;
}

SnapshotInfo LocalSnapshotter::update(const SnapshotInfo& info,
                                      const std::vector<std::string>& fields) {
  Meta::Transaction transaction = store_.meta().write();
  SnapshotRecord snapshot = require_snapshot(transaction, space_, info.name);
  replace_labels(snapshot.info.labels, info.labels, fields);
  check_labels(snapshot.info.labels);
  snapshot.info.updated = now();
  transaction.update_snapshot(snapshot);
  transaction.commit();
  return snapshot.info;
}

Usage LocalSnapshotter::usage(std::string_view key) {
  const SnapshotRecord snapshot = [&] {
    Meta::Transaction transaction = store_.meta().read();
    return require_snapshot(transaction, space_, key);
  }();
  if (snapshot.usage) return *snapshot.usage;
  if (snapshot.variant) return snapshot.variant->usage;
  return measure_tree(store_.layout().open_upper(snapshot.id).get());
}

std::vector<Mount> LocalSnapshotter::mounts(std::string_view key) {
  Meta::Transaction transaction = store_.meta().read();
  const SnapshotRecord snapshot = require_snapshot(transaction, space_, key);
  return {to_mount(plan_mount(store_, transaction, snapshot))};
}

std::vector<Mount> LocalSnapshotter::make(Kind kind, std::string_view key, std::string_view parent,
                                          const Labels& labels) {
  Meta::Transaction transaction = store_.meta().write();
  NewSnapshot snapshot(
      store_, transaction,
      {.kind = kind, .space = space_, .key = key, .parent = parent, .labels = labels});
  transaction.commit();
  snapshot.done();
  return {to_mount(snapshot.plan())};
}

LocalSnapshotter::Committable LocalSnapshotter::require_committable(
    Meta::Transaction& transaction, std::string_view name, std::string_view key,
    const CommitOptions& options) const {
  if (transaction.maybe_snapshot(space_, name))
    fail(Code::already_exists, "a snapshot has the name {} already", name);
  SnapshotRecord active = require_snapshot(transaction, space_, key);
  if (active.info.kind != Kind::active)
    fail(Code::failed_precondition, "snapshot {} is not active but {}", key,
         to_string(active.info.kind));
  const std::string parent = options.parent.value_or("");
  if (parent.empty() || parent == active.info.parent) return {.snapshot = std::move(active)};
  if (active.parent)
    fail(Code::invalid_argument, "snapshot {} has the parent {}, not {}", key, active.info.parent,
         parent);
  active.parent = require_parent(transaction, space_, parent, Code::failed_precondition).id;
  (void)transaction.chain(*active.parent);  // not too deep
  active.info.parent = parent;
  return {.snapshot = std::move(active), .is_rebased = true};
}

// Makes the snapshot's files durable, and measures them.
Usage LocalSnapshotter::settle(const SnapshotRecord& active) const {
  if (active.variant) return active.variant->usage;
  const UniqueFd upper = store_.layout().open_upper(active.id);
  const Usage usage = measure_tree(upper.get());
  if (!store_.options().is_volatile) sync_tree(upper.get(), usage);
  return usage;
}

// What a layer shows may depend on those below it: one that was made over nothing is looked at
// again over the parent that it gets only now, or over none, if it cannot be without. Nothing for
// all others.
std::optional<OneLayer> LocalSnapshotter::maybe_repack(const Committable& committed) const {
  const SnapshotRecord& active = committed.snapshot;
  if (!active.variant) return std::nullopt;
  if (!committed.is_rebased && active.variant->name != kUnsettledTree) return std::nullopt;
  const auto layer = store_.meta().read().maybe_layer(active.variant->diff_id);
  if (!layer || !layer->depends_on_lower) return std::nullopt;
  LayerBlob blob;
  blob.diff_id = layer->diff_id;
  blob.open = [&]() -> std::unique_ptr<Source> {
    fail(Code::failed_precondition, "snapshot {} was removed meanwhile", active.info.name);
  };
  return std::optional<OneLayer>(std::in_place, store_, active.parent, std::move(blob));
}

void LocalSnapshotter::commit(std::string_view name, std::string_view key,
                              const CommitOptions& options) {
  check_key(name, "name");
  check_labels(options.labels);
  // What takes long, while others can write. A client that still changes the files has no promise.
  const Committable seen = [&] {
    Meta::Transaction transaction = store_.meta().read();
    return require_committable(transaction, name, key, options);
  }();
  std::optional<OneLayer> repacked = maybe_repack(seen);
  Usage usage = settle(seen.snapshot);

  Meta::Transaction transaction = store_.meta().write();
  SnapshotRecord snapshot = require_committable(transaction, name, key, options).snapshot;
  if (snapshot.id != seen.snapshot.id || snapshot.parent != seen.snapshot.parent ||
      snapshot.variant.has_value() != seen.snapshot.variant.has_value())
    fail(Code::failed_precondition, "snapshot {} was made anew meanwhile", key);
  OrphanGuard orphans(store_.open_mark());
  if (repacked) {
    snapshot.variant = repacked->publish(transaction);
    VENEER_CHECK(snapshot.variant.has_value());  // the snapshot has held the layer all the time
    usage = snapshot.variant->usage;
  }
  snapshot.info.name = name;
  snapshot.info.kind = Kind::committed;
  snapshot.info.created = now();
  snapshot.info.updated = snapshot.info.created;
  snapshot.info.labels = options.labels;
  snapshot.usage = usage;
  transaction.update_snapshot(snapshot);
  transaction.commit();
  orphans.done();
}

void LocalSnapshotter::remove(std::string_view key) {
  Meta::Transaction transaction = store_.meta().write();
  const SnapshotRecord snapshot = require_snapshot(transaction, space_, key);
  if (transaction.has_children(snapshot.id))
    fail(Code::failed_precondition, "cannot remove snapshot {}: others are on top of it", key);
  transaction.remove_snapshot(snapshot.id);
  OrphanGuard orphans(store_.open_mark());
  if (snapshot.variant)
    store_.collect(std::move(transaction));
  else
    transaction.commit();
  discard_snapshot(store_.layout(), snapshot.id);
  orphans.done();
}

void LocalSnapshotter::walk(const std::vector<std::string>& filters,
                            const std::function<void(const SnapshotInfo&)>& visit) {
  const SnapshotFilter filter(filters);
  int64_t last = 0;
  for (;;) {
    const std::vector<SnapshotRecord> page =
        store_.meta().read().list_snapshots(space_, last, kWalkedAtOnce);
    if (page.empty()) return;
    for (const SnapshotRecord& snapshot : page)
      if (filter.matches(snapshot.info)) visit(snapshot.info);
    last = page.back().id;
  }
}

}  // namespace

MountPlan plan_mount(Store& store, Meta::Transaction& transaction, const SnapshotRecord& snapshot) {
  if (snapshot.info.kind == Kind::committed)
    fail(Code::failed_precondition, "snapshot {} is committed: make a view of it",
         snapshot.info.name);
  const std::string own = store.layout().snapshot_path(snapshot.id);
  const std::optional<int64_t> top = snapshot.variant ? snapshot.id : snapshot.parent;
  std::vector<std::string> lower;
  if (top) lower = store.lower_paths(transaction, *top);

  const bool is_read_only = snapshot.info.kind == Kind::view || snapshot.variant;
  if (lower.empty())
    return {.bind = fmt::format("{}/{}", own, kUpperName.c_str()), .is_read_only = is_read_only};
  if (!is_read_only)
    return {.bind = {},
            .overlay = {.lower = std::move(lower),
                        .upper = fmt::format("{}/{}", own, kUpperName.c_str()),
                        .work = fmt::format("{}/{}", own, kWorkName.c_str()),
                        .options = {"index=off"}}};
  if (lower.size() == 1) {
    const bool is_layer = snapshot.variant || transaction.snapshot(*snapshot.parent).variant;
    if (!is_layer) return {.bind = lower.front(), .is_read_only = true};
    // The mount of a packed layer is not for programs to run in (nosuid, nodev, noexec), and any
    // layer may have whiteouts: only overlayfs shows it as it is meant.
    lower.push_back(store.lowers().empty_path());
  }
  return {.bind = {}, .is_read_only = true, .overlay = {.lower = std::move(lower)}};
}

NewSnapshot::NewSnapshot(Store& store, Meta::Transaction& transaction, const Wanted& wanted)
    : orphans_(store.open_mark()) {
  check_key(wanted.key, "key");
  check_labels(wanted.labels);
  SnapshotRecord snapshot{.space = std::string(wanted.space),
                          .info = {.name = std::string(wanted.key),
                                   .parent = std::string(wanted.parent),
                                   .kind = wanted.kind,
                                   .created = now(),
                                   .updated = {},
                                   .labels = wanted.labels},
                          .parent = {},
                          .variant = {},
                          .usage = {}};
  snapshot.info.updated = snapshot.info.created;
  if (!wanted.parent.empty())
    snapshot.parent =
        require_parent(transaction, wanted.space, wanted.parent, Code::invalid_argument).id;
  if (transaction.maybe_snapshot(wanted.space, wanted.key))
    fail(Code::already_exists, "a snapshot has the key {} already", wanted.key);
  snapshot.id = id_ = transaction.add_snapshot(snapshot);
  plan_ = plan_mount(store, transaction, snapshot);
  make_snapshot_directory(store, snapshot, plan_);
}

void make_snapshot_directory(Store& store, const SnapshotRecord& snapshot, const MountPlan& plan) {
  const Layout& layout = store.layout();
  StagingDir staging(layout);
  fill_snapshot(staging.fd(), snapshot.info.kind, plan);
  // Of a transaction with this id that did not come to its end.
  discard_snapshot(layout, snapshot.id);
  const bool may_be_lost = store.options().is_volatile || store.open_mark().covers_new_snapshots();
  staging.publish(layout.snapshots(), Layout::snapshot_name(snapshot.id),
                  may_be_lost ? StagingDir::Durable::later : StagingDir::Durable::now);
}

SnapshotRecord require_snapshot(Meta::Transaction& transaction, std::string_view space,
                                std::string_view key) {
  auto snapshot = transaction.maybe_snapshot(space, key);
  if (!snapshot) fail(Code::not_found, "snapshot {} does not exist", key);
  return std::move(*snapshot);
}

std::unique_ptr<Snapshotter> open_snapshotter(Store& store, std::string_view space) {
  return std::make_unique<LocalSnapshotter>(store, space);
}

}  // namespace veneer
