#include "rpc/remap.h"

#include <algorithm>
#include <utility>

#include "base/at.h"
#include "base/digest.h"
#include "base/error.h"
#include "mount/idmap.h"
#include "store/local.h"

namespace veneer {

namespace {

// Enough that no two maps have one name; each lower path has it, and all must fit a page.
constexpr size_t kMapDigits = 12;
// Before the number of a snapshot whose directory is the lower.
constexpr char kOfSnapshot = 's';
// The second lower directory of a view, which has nothing to map.
constexpr std::string_view kEmpty = "empty";

// None if the labels do not ask for any.
std::optional<IdMaps> maybe_maps(const Labels& labels) {
  const auto uids = labels.find(std::string(kUidMapping));
  const auto gids = labels.find(std::string(kGidMapping));
  if (uids == labels.end() && gids == labels.end()) return std::nullopt;
  return IdMaps{.uids = uids == labels.end() ? IdMap() : IdMap::parse(uids->second),
                .gids = gids == labels.end() ? IdMap() : IdMap::parse(gids->second)};
}

std::string name_of(const IdMaps& maps) {
  std::string text;
  for (const IdMap* const map : {&maps.uids, &maps.gids}) {
    for (const IdRange& range : map->ranges())
      text += fmt::format("{}:{}:{},", range.container, range.host, range.size);
    text += ';';
  }
  return Sha256::of(text).hex().substr(0, kMapDigits);
}

// What its clone is named after: a name beside it, or the snapshot whose directory it is.
std::string name_of_lower(Store& store, const std::string& path) {
  const std::string lowers = store.lowers().directory() + "/";
  if (path.starts_with(lowers)) return path.substr(lowers.size());
  const std::string snapshots = store.layout().path() + "/snapshots/";
  VENEER_CHECK(path.starts_with(snapshots));  // plan_mount() has no others
  return kOfSnapshot +
         path.substr(snapshots.size(), path.find('/', snapshots.size()) - snapshots.size());
}

bool is_lower_there(const Layout& layout, int lowers, const std::string& name) {
  if (name.starts_with(kOfSnapshot))
    return exists_at(layout.snapshots(), RelPath::parse(name.substr(1)));
  return exists_at(lowers, RelPath::parse(name));
}

// What the client writes belongs to the root inside, as the lower top directory looks to it.
void give_to_root_inside(const Layout& layout, int64_t id, const IdMaps& maps) {
  const UniqueFd snapshot = open_dir_at(layout.snapshots(), Layout::snapshot_name(id));
  const UniqueFd upper = open_dir_at(snapshot.get(), kUpperName);
  const struct stat st = stat_fd(upper.get());
  chown_fd(upper.get(), maps.uids.to_host(st.st_uid), maps.gids.to_host(st.st_gid));
  if (const auto work = maybe_open_dir_at(snapshot.get(), kWorkName))
    chown_fd(work->get(), maps.uids.to_host(0), maps.gids.to_host(0));
}

}  // namespace

RemappingSnapshotter::RemappingSnapshotter(Snapshotter& inner, Store& store, std::string_view space)
    : ForwardingSnapshotter(inner), store_(store), space_(space) {
  this->inner().walk({}, [&](const SnapshotInfo& info) {
    if (info.kind == Kind::committed) return;
    try {
      if (const auto maps = maybe_maps(info.labels)) map_of_key_[info.name] = name_of(*maps);
    } catch (const Error&) {
      // A label that a server without maps has taken: it has no clones, and mounts() will refuse
      // it.
    }
  });
  const std::scoped_lock lock(mutex_);
  sweep();
}

SnapshotInfo RemappingSnapshotter::update(const SnapshotInfo& info,
                                          const std::vector<std::string>& fields) {
  (void)maybe_maps(info.labels);  // refuses what no mounts could be made of
  return inner().update(info, fields);
}

std::vector<Mount> RemappingSnapshotter::mounts(std::string_view key) {
  const auto maps = maybe_maps(inner().stat(key).labels);
  if (!maps) return inner().mounts(key);
  return finish(key, *maps, false);
}

std::vector<Mount> RemappingSnapshotter::prepare(std::string_view key, std::string_view parent,
                                                 const Labels& labels) {
  const auto maps = maybe_maps(labels);
  std::vector<Mount> mounts = inner().prepare(key, parent, labels);
  if (!maps) return mounts;
  return finish(key, *maps, true);
}

std::vector<Mount> RemappingSnapshotter::view(std::string_view key, std::string_view parent,
                                              const Labels& labels) {
  const auto maps = maybe_maps(labels);
  std::vector<Mount> mounts = inner().view(key, parent, labels);
  if (!maps) return mounts;
  return finish(key, *maps, true);
}

void RemappingSnapshotter::commit(std::string_view name, std::string_view key,
                                  const CommitOptions& options) {
  if (maybe_maps(inner().stat(key).labels))
    fail(Code::failed_precondition,
         "snapshot {} is for a user namespace: its files belong to ids of the host", key);
  inner().commit(name, key, options);
}

void RemappingSnapshotter::remove(std::string_view key) {
  inner().remove(key);
  const std::scoped_lock lock(mutex_);
  map_of_key_.erase(std::string(key));
  try {
    sweep();
  } catch (const Error&) {
    // The snapshot has gone all the same; the next removal tries again.
  }
}

// The mounts of a snapshot that is there; a new one that cannot be mapped goes again.
std::vector<Mount> RemappingSnapshotter::finish(std::string_view key, const IdMaps& maps,
                                                bool is_new) {
  try {
    const std::scoped_lock lock(mutex_);
    Meta::Transaction transaction = store_.meta().read();
    const SnapshotRecord snapshot = require_snapshot(transaction, space_, key);
    MountPlan plan = plan_mount(store_, transaction, snapshot);
    map_of_key_[std::string(key)] = name_of(maps);
    if (is_new) give_to_root_inside(store_.layout(), snapshot.id, maps);
    for (std::string& lower : plan.overlay.lower) lower = clone(lower, maps);
    if (plan.bind.empty()) return {to_mount(plan.overlay)};
    if (!plan.bind.starts_with(store_.layout().snapshot_path(snapshot.id) + "/"))
      plan.bind = clone(plan.bind, maps);
    return {{.type = "bind",
             .source = plan.bind,
             .options = {plan.is_read_only ? "ro" : "rw", "rbind"}}};
  } catch (const Error&) {
    if (is_new) remove(key);
    throw;
  }
}

std::string RemappingSnapshotter::clone(const std::string& path, const IdMaps& maps) {
  const std::string of = name_of_lower(store_, path);
  if (of == kEmpty) return path;
  const RelPath name = RelPath::parse(fmt::format("{}.{}", of, name_of(maps)));
  const UniqueFd lowers = open_root(store_.lowers().directory());
  if (!is_mount_point_at(lowers.get(), name)) {
    const UniqueFd mount = clone_mount(open_root(path).get(), ".");
    idmap_mount(mount.get(), maps);
    (void)try_make_dir_at(lowers.get(), name, 0700);  // a reboot may have left it
    attach_mount(mount.get(), lowers.get(), name);
  }
  return fmt::format("{}/{}", store_.lowers().directory(), name.str());
}

// Unmounts the clones that no snapshot needs, or whose lower has gone.
void RemappingSnapshotter::sweep() {
  std::set<std::string> needed;
  for (const auto& [key, map] : map_of_key_) needed.insert(map);
  const UniqueFd lowers = open_root(store_.lowers().directory());
  for (const std::string& text : list_dir(lowers.get())) {
    const size_t dot = text.rfind('.');
    if (dot == std::string::npos) continue;
    if (needed.contains(text.substr(dot + 1)) &&
        is_lower_there(store_.layout(), lowers.get(), text.substr(0, dot)))
      continue;
    const RelPath name = RelPath::parse(text);
    while (unmount_at(lowers.get(), name, Unmount::detach)) continue;
    (void)remove_tree_at(lowers.get(), name);
  }
}

}  // namespace veneer
