#include "store/store.h"

#include <set>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/lock.h"
#include "layer/settle.h"
#include "mount/features.h"
#include "mount/idmap.h"
#include "mount/mapped_overlay.h"
#include "mount/mount.h"
#include "mount/overlay.h"
#include "store/local.h"
#include "store/recover.h"

namespace veneer {

namespace {

UniqueFd build_overlay(Store& store, const MountPlan& plan, const IdMaps& own_maps) {
  if (own_maps.is_identity()) return mount_overlay(plan.overlay);
  LayerMaps maps{.lower = {}, .upper = own_maps};
  // What came as a tar may have any ids: none of them must become the root of the host.
  const std::string layers = store.lowers().directory() + "/";
  for (const std::string& lower : plan.overlay.lower)
    maps.lower.push_back(lower.starts_with(layers) ? plan.id_maps : own_maps);
  return mount_mapped_overlay(plan.overlay, maps);
}

UniqueFd build_mount(Store& store, const MountPlan& plan) {
  // The root of the host writes there as well, and so does overlayfs itself.
  const IdMaps own_maps{.uids = plan.id_maps.uids.with_host_root(),
                        .gids = plan.id_maps.gids.with_host_root()};
  if (plan.bind.empty()) return build_overlay(store, plan, own_maps);
  UniqueFd mount = clone_mount(open_root(plan.bind).get(), ".");
  if (plan.is_read_only) make_read_only(mount.get());
  idmap_mount(mount.get(), own_maps);
  return mount;
}

std::vector<int> borrow(const std::vector<UniqueFd>& directories) {
  std::vector<int> fds;
  for (const UniqueFd& directory : directories) fds.push_back(directory.get());
  return fds;
}

}  // namespace

Store::Store(const StoreOptions& options)
    : options_(options),
      layout_(options_.root),
      meta_(layout_, options_.is_volatile),
      lowers_(layout_, options_.run, meta_.identity()),
      open_mark_(std::make_unique<OpenMark>(layout_, options_.is_volatile)) {
  recover(*this);
}

Store::~Store() = default;

Form Store::form() {
  if (options_.form) return *options_.form;
  return why_not_packed().empty() ? Form::packed : Form::directory;
}

const std::string& Store::why_not_packed() {
  std::call_once(is_probed_, [this] {
    const StagingDir staging(layout_);  // not in sight of those who empty it
    why_not_packed_ = probe_packed(staging.fd()).why_not;
  });
  return why_not_packed_;
}

std::vector<std::string> Store::lower_paths(Meta::Transaction& transaction, int64_t snapshot) {
  std::vector<std::string> paths;
  std::set<int64_t> above;
  for (const auto& layer : transaction.list_contents(snapshot)) {
    if (!layer.variant) {
      paths.push_back(
          fmt::format("{}/{}", layout_.snapshot_path(layer.snapshot), kUpperName.c_str()));
      above.clear();  // it may redirect to what only the layers below it have
    } else if (above.insert(layer.variant->id).second) {
      paths.push_back(lowers_.path(*layer.variant));
    }
  }
  return paths;
}

Store::OpenedView Store::open_view(Meta::Transaction& transaction,
                                   std::optional<int64_t> snapshot) {
  OpenedView opened;
  if (!snapshot) return opened;
  for (const SnapshotRecord& layer : transaction.chain(*snapshot))
    opened.directories.push_back(layer.variant ? lowers_.open(*layer.variant)
                                               : layout_.open_upper(layer.id));
  opened.view = {.layers = borrow(opened.directories), .marks = Marks::trusted};
  return opened;
}

std::string Store::mount(std::string_view space, std::string_view key) {
  Meta::Transaction transaction = meta_.read();
  const SnapshotRecord snapshot = require_snapshot(transaction, space, key);
  const MountPlan plan = plan_mount(*this, transaction, snapshot);
  // A staged snapshot may have none yet.
  if (snapshot.variant)
    (void)try_make_dir_at(layout_.snapshots(), Layout::snapshot_name(snapshot.id), 0700);
  return mount_snapshot(*this, snapshot.id, plan);
}

bool Store::unmount(std::string_view space, std::string_view key) {
  const int64_t id = [&] {
    Meta::Transaction transaction = meta_.read();
    return require_snapshot(transaction, space, key).id;
  }();
  const auto directory = maybe_open_dir_at(layout_.snapshots(), Layout::snapshot_name(id));
  if (!directory) return false;
  lock_fd(directory->get());
  return unmount_at(directory->get(), kMergedName);
}

void Store::write_layer(int64_t id, Sink& to, const DiffOptions& options) {
  OpenedView before;
  UniqueFd own;
  bool is_view = false;
  {
    Meta::Transaction transaction = meta_.read();
    const SnapshotRecord snapshot = transaction.snapshot(id);
    is_view = snapshot.info.kind == Kind::view;
    if (snapshot.variant) {
      const auto layer =
          maybe_open_dir_at(layout_.layers(), Layout::digest_name(snapshot.variant->diff_id));
      auto tar = layer ? maybe_open_at(layer->get(), kLayerTarName, O_RDONLY) : std::nullopt;
      if (!tar) fail(Code::corrupt, "layer {} has no tar", snapshot.variant->diff_id.str());
      own = std::move(*tar);
    } else {
      own = layout_.open_upper(id);
      before = open_view(transaction, snapshot.parent);
    }
  }
  if (!S_ISDIR(stat_fd(own.get()).st_mode)) {
    FdSource tar(own.get());
    return copy_all(tar, to);
  }
  // A view adds nothing, and its own directory is in no mount unless it stands alone.
  View now{.layers = {}, .marks = Marks::trusted};
  if (!is_view || before.view.layers.empty()) now.layers.push_back(own.get());
  for (const int lower : before.view.layers) now.layers.push_back(lower);
  write_diff(now, before.view.layers.empty() ? std::nullopt : std::optional(before.view), options,
             to);
}

void Store::write_changes(int64_t id, std::optional<int64_t> before, Sink& to,
                          const DiffOptions& options) {
  OpenedView now;
  OpenedView then;
  {
    Meta::Transaction transaction = meta_.read();
    const std::optional<int64_t> parent = transaction.snapshot(id).parent;
    // Snapshots of several names may have the same layers.
    const auto paths = [&](std::optional<int64_t> snapshot) {
      return snapshot ? lower_paths(transaction, *snapshot) : std::vector<std::string>();
    };
    const bool is_parent = parent == before || paths(parent) == paths(before);
    if (!is_parent) {
      now = open_view(transaction, id);
      then = open_view(transaction, before);
    }
  }
  if (now.view.layers.empty()) return write_layer(id, to, options);
  write_diff(now.view, before ? std::optional(then.view) : std::nullopt, options, to);
}

void Store::collect(Meta::Transaction transaction) {
  const Meta::Transaction::Unused unused = transaction.remove_unused_layers();
  OrphanGuard orphans(*open_mark_);
  transaction.commit();
  if (!unused.layers.empty()) {
    // Whoever imports such a layer again publishes it in a transaction: not before this one ends.
    Meta::Transaction guard = meta_.write();
    for (const LayerRecord& layer : unused.layers)
      if (!guard.maybe_layer(layer.diff_id))
        discard_if_there(layout_, layout_.layers(), Layout::digest_name(layer.diff_id));
    // After the files, so that none of them is mounted again.
    for (const VariantRecord& variant : unused.variants) lowers_.release(variant.id);
  }
  orphans.done();
}

std::string mount_snapshot(Store& store, int64_t id, const MountPlan& plan) {
  const UniqueFd directory = store.layout().open_snapshot(id);
  lock_fd(directory.get());
  (void)try_make_dir_at(directory.get(), kMergedName, 0700);
  if (!is_mount_point_at(directory.get(), kMergedName))
    attach_mount(build_mount(store, plan).get(), directory.get(), kMergedName);
  return fmt::format("{}/{}", store.layout().snapshot_path(id), kMergedName.c_str());
}

void Store::discard_snapshot(int64_t id) {
  veneer::discard_snapshot(layout_, id);
}

}  // namespace veneer
