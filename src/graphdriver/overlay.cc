#include "graphdriver/overlay.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <optional>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/limits.h"
#include "graphdriver/id_lock.h"
#include "graphdriver/naive_diff.h"
#include "graphdriver/staging.h"
#include "graphdriver/write_behind.h"
#include "layer/apply.h"
#include "layer/copy.h"
#include "mount/features.h"
#include "mount/mount.h"
#include "mount/overlay.h"

namespace veneer {

namespace {

constexpr std::string_view kOverlayName = "overlay";
constexpr PathView kStagingDir = ".veneer-staging";
constexpr std::string_view kReservedPrefix = ".veneer-";           // no id; ours, and the probes'
constexpr std::string_view kProbePrefix = ".veneer-probe-";        // of mount/features, in home
constexpr std::string_view kTmpRootPrefix = "tmproot";             // Docker's
constexpr std::string_view kOwnTmpRootPrefix = "tmproot-veneer-";  // locked while in use
constexpr std::string_view kLostFound = "lost+found";              // of ext4
// A Docker that runs on this home locks nothing: what it is making is left alone for so long.
constexpr time_t kForeignGraceSeconds = 3600;
constexpr std::string_view kOverlayVolatile = "overlay.volatile";
// With an index, lower hard links show data that only the work directory knows of; and image trees
// are full of inodes that other trees link to.
constexpr const char* kNoIndex = "index=off";

// overlayfs takes none of these as an upper, or loses data on it; moby refuses the same ones.
constexpr std::array<uint64_t, 6> kRefusedBacking{magic::kAufs, magic::kBtrfs,   magic::kEcryptfs,
                                                  magic::kNfs,  magic::kOverlay, magic::kZfs};

bool is_reserved(std::string_view id) {
  return id.starts_with(kReservedPrefix) || id == kLostFound;
}

RelPath parse_overlay_id(std::string_view id) {
  RelPath name = parse_id(id);
  if (is_reserved(id)) fail(Code::invalid_argument, "the id \"{}\" is reserved", id);
  return name;
}

bool parse_volatile(const std::vector<std::string>& options) {
  bool is_volatile = false;
  for (const std::string& option : options) {
    const size_t equals = option.find('=');
    const std::string_view key = std::string_view(option).substr(0, equals);
    if (key != kOverlayVolatile)
      fail(Code::invalid_argument, "unknown option \"{}\"; overlay knows {}=true|false", key,
           kOverlayVolatile);
    const std::string_view value =
        equals == std::string::npos ? "" : std::string_view(option).substr(equals + 1);
    if (value != "true" && value != "false")
      fail(Code::invalid_argument, "option {} is \"{}\"; it takes true or false", key, value);
    is_volatile = value == "true";
  }
  return is_volatile;
}

void try_backing(int dir, const std::string& home, const std::string& file_system) {
  require_overlay(dir);
  if (!supports_d_type(dir))
    fail(Code::unsupported,
         "the {} file system of {} does not report entry types (d_type), which overlayfs needs: "
         "make it anew (xfs: mkfs.xfs -n ftype=1) or choose another --home",
         file_system, home);
}

// Throws unsupported if overlayfs cannot work in `dir`, where home is or will be. Returns the name
// of the file system. A full disk is no reason not to open a home that `is_made`: it was looked at
// then, and needs no room to be read, and to be removed from.
std::string check_backing(int dir, const std::string& home, bool is_made) {
  const uint64_t type = file_system_magic_at(dir, ".");
  std::string name = file_system_name(type);
  for (const uint64_t refused : kRefusedBacking)
    if (type == refused)
      fail(Code::unsupported,
           "{} lies on {}, which cannot hold the upper directories of overlayfs: "
           "choose a --home on ext4 or xfs",
           home, name);
  try {
    try_backing(dir, home, name);
  } catch (const SysError& error) {
    if (!is_made || !is_about_room(error.error_number())) throw;
  }
  return name;
}

bool is_private(const struct stat& st) {
  return (st.st_mode & 07777) == 0700;
}

bool is_old(const struct stat& st) {
  return std::time(nullptr) - st.st_mtim.tv_sec > kForeignGraceSeconds;
}

// Removes what the dead left and no lock tells from the work of the living.
void remove_old(int dir, std::string_view prefix) {
  for (const std::string& name : list_dir(dir)) {
    if (!name.starts_with(prefix) || name.starts_with(kOwnTmpRootPrefix)) continue;
    const RelPath path = RelPath::parse_name(name, "name");
    const auto st = maybe_stat_at(dir, path);
    if (st && is_old(*st)) (void)remove_tree_at(dir, path);
  }
}

class OverlayDriver final : public NaiveDiffDriver {
 public:
  explicit OverlayDriver(const DriverOptions& options);

  std::string_view name() const override { return kOverlayName; }
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
  std::unique_ptr<NewLayer> make_layer(std::string_view id, std::string_view parent,
                                       const NewLayer* below, Source& tar) override;
  void remove(std::string_view id) override;
  std::string get(std::string_view id, std::string_view mount_label) override;
  void put(std::string_view id) override;
  void cleanup() override {}
  uint64_t apply_diff(std::string_view id, std::string_view parent, Source& tar) override;

 protected:
  std::vector<UniqueFd> open_view(std::string_view id) const override;

 private:
  void open_home(const DriverOptions& options);
  void clean_up_after_crashes();
  void clean_up_layer(int layer, const RelPath& id);

  std::string path(const RelPath& id, std::string_view part) const {
    return fmt::format("{}/{}/{}", home_path_, id.str(), part);
  }
  UniqueFd open_layer(const RelPath& id) const;
  UniqueFd open_existing(const RelPath& id, IdLock& lock) const;
  UniqueFd open_lower_root(int layer) const;
  std::optional<UniqueFd> open_parent_root(std::string_view parent) const;
  std::optional<IdLock> lock_parent(std::string_view parent) const;

  void make_owned_dir(int dir, PathView name, mode_t mode) const;
  void fill_layer(int layer, std::string_view parent) const;
  class Made;
  uint64_t fill_with_layer(int layer, std::string_view parent, const Made* below,
                           Source& tar) const;
  void publish(Staging& staging, const RelPath& id) const;
  void mount_layer(const RelPath& id, int layer, std::string_view label) const;

  ApplyOptions whole_tar() const { return {.id_maps = id_maps(), .needs_end_marker = true}; }
  uint64_t apply_to_tree(int root, Source& tar, const ApplyOptions& options) const;
  uint64_t apply_to_upper(int holder, int lower_root, Source& tar, ApplyOptions options) const;
  uint64_t become_image(int layer, std::string_view parent, Source& tar) const;
  uint64_t replace_root(int layer, Source& tar) const;
  uint64_t replace_upper(int layer, Source& tar) const;

  void sync_tree(int fd) const;
  void sync_names(int dir) const;

  UniqueFd home_;
  std::string home_path_;
  UniqueFd staging_;
  std::optional<IdLocks> locks_;
  uint32_t root_uid_ = 0;
  uint32_t root_gid_ = 0;
  bool is_volatile_ = false;
  std::string backing_;
};

// --- opening ---

OverlayDriver::OverlayDriver(const DriverOptions& options)
    : NaiveDiffDriver(options.id_maps),
      root_uid_(options.id_maps.uids.to_host(0)),
      root_gid_(options.id_maps.gids.to_host(0)),
      is_volatile_(parse_volatile(options.options)) {
  open_home(options);
  locks_.emplace(options.run, kOverlayName, home_path_);
  clean_up_after_crashes();
}

void OverlayDriver::open_home(const DriverOptions& options) {
  // Before home is made, so that a refusal leaves nothing.
  const UniqueFd nearest = open_nearest_root(options.home);
  backing_ = check_backing(nearest.get(), options.home, exists_at(nearest.get(), kStagingDir));
  OpenedDir home = open_or_make_root(options.home, kHomeMode);
  home_ = std::move(home.fd);
  home_path_ = path_of(home_.get());
  if (home.is_new) chown_fd(home_.get(), static_cast<uid_t>(-1), root_gid_);
  (void)try_make_dir_at(home_.get(), kStagingDir, 0700);
  staging_ = open_dir_at(home_.get(), kStagingDir);
}

void OverlayDriver::clean_up_after_crashes() {
  remove_stale(staging_.get(), "");
  remove_old(home_.get(), kProbePrefix);
  for (const std::string& id : list()) {
    const RelPath name = RelPath::parse_name(id, "id");
    const auto layer = maybe_open_dir_at(home_.get(), name);
    if (!layer) continue;
    try {
      clean_up_layer(layer->get(), name);
    } catch (const Error&) {
      // Another process, a Docker perhaps, was at the same thing, or something cannot be removed:
      // no reason to refuse the other layers.
    }
  }
}

constexpr std::string_view kLayerParts[] = {"root", "upper", "lower-id", "work", "merged"};

// What a layer's directory holds.
struct Parts {
  bool root = false;
  bool upper = false;
  bool lower_id = false;
  bool tmp_root = false;
  bool is_empty = true;
  bool has_others = false;  // what no layer has

  // An image has a root and no more; a container has an upper and a lower-id.
  bool is_whole() const { return root ? !upper && !lower_id : upper && lower_id; }
};

Parts read_parts(int layer) {
  Parts parts;
  DirReader reader(layer);
  while (const auto entry = reader.next()) {
    const std::string_view name = entry->name();
    parts.root |= name == "root";
    parts.upper |= name == "upper";
    parts.lower_id |= name == "lower-id";
    parts.tmp_root |= name.starts_with(kTmpRootPrefix);
    parts.is_empty = false;
    parts.has_others |= std::ranges::find(kLayerParts, name) == std::end(kLayerParts) &&
                        !name.starts_with(kTmpRootPrefix);
  }
  return parts;
}

// Removes what a layer that has become an image needs no more.
void finish_image(int layer) {
  (void)unmount_at(layer, "merged", Unmount::detach);
  for (const PathView part :
       {PathView("upper"), PathView("work"), PathView("merged"), PathView("lower-id")})
    (void)remove_tree_at(layer, part);
}

// The rest of an apply_diff() that died, of ours or of a Docker's, and layers that a Docker began.
void OverlayDriver::clean_up_layer(int layer, const RelPath& id) {
  const Parts seen = read_parts(layer);
  if (seen.has_others) return;  // no layer: somebody's directory, in a home that is none
  if (seen.tmp_root) {
    remove_stale(layer, kOwnTmpRootPrefix);
    remove_old(layer, kTmpRootPrefix);
  }
  if (seen.is_whole()) return;
  const IdLock lock = locks_->lock(id, IdLock::Mode::exclusive);
  const Parts parts = read_parts(layer);  // what was seen may have been an operation's last step
  if (parts.is_whole()) return;
  if (parts.root) {
    finish_image(layer);
  } else if (const auto st = stat_fd(layer); is_old(st) && (!parts.is_empty || is_private(st))) {
    remove_via_staging(staging_.get(), home_.get(), id);
  }
}

// --- looking ---

std::vector<std::pair<std::string, std::string>> OverlayDriver::status() const {
  return {{"Backing Filesystem", backing_},
          {"Supports d_type", "true"},
          {"Volatile", is_volatile_ ? "true" : "false"}};
}

UniqueFd OverlayDriver::open_layer(const RelPath& id) const {
  auto layer = maybe_open_dir_at(home_.get(), id);
  if (!layer) fail(Code::not_found, "no layer has the id {}", id.str());
  return std::move(*layer);
}

RelPath read_lower_id(int layer) {
  const auto text = maybe_read_file_at(layer, "lower-id", limits::kIdBytes);
  if (!text) fail(Code::corrupt, "a layer with neither root nor lower-id");
  return parse_overlay_id(*text);
}

UniqueFd OverlayDriver::open_lower_root(int layer) const {
  const RelPath lower = read_lower_id(layer);
  auto root = maybe_open_dir_at(open_layer(lower).get(), "root");
  if (!root) fail(Code::corrupt, "the layer below, {}, has no root", lower.str());
  return std::move(*root);
}

std::vector<UniqueFd> OverlayDriver::open_view(std::string_view id) const {
  const UniqueFd layer = open_layer(parse_overlay_id(id));
  std::vector<UniqueFd> view;
  if (auto root = maybe_open_dir_at(layer.get(), "root")) {
    view.push_back(std::move(*root));
  } else {
    view.push_back(open_dir_at(layer.get(), "upper"));
    view.push_back(open_lower_root(layer.get()));
  }
  return view;
}

std::map<std::string, std::string> OverlayDriver::metadata(std::string_view id) const {
  const RelPath name = parse_overlay_id(id);
  const UniqueFd layer = open_layer(name);
  if (exists_at(layer.get(), "root")) return {{"RootDir", path(name, "root")}};
  return {{"LowerDir", path(read_lower_id(layer.get()), "root")},
          {"UpperDir", path(name, "upper")},
          {"WorkDir", path(name, "work")},
          {"MergedDir", path(name, "merged")}};
}

bool OverlayDriver::exists(std::string_view id) const {
  return exists_at(home_.get(), parse_overlay_id(id));
}

std::vector<std::string> OverlayDriver::list() const {
  std::vector<std::string> ids;
  for (std::string& name : list_dir(home_.get()))
    if (!is_reserved(name)) ids.push_back(std::move(name));
  return ids;
}

// --- creating and removing ---

void OverlayDriver::make_owned_dir(int dir, PathView name, mode_t mode) const {
  make_dir_at(dir, name, mode);
  if (root_uid_ == ::geteuid() && root_gid_ == ::getegid()) return;
  chown_at(dir, name, root_uid_, root_gid_);
  chmod_at(dir, name, mode);
}

// Fills a staged layer directory: Create's three cases.
void OverlayDriver::fill_layer(int layer, std::string_view parent) const {
  chown_fd(layer, root_uid_, root_gid_);
  if (parent.empty()) return make_owned_dir(layer, "root", 0755);
  const RelPath parent_id = parse_overlay_id(parent);
  const UniqueFd below = open_layer(parent_id);
  const auto root = maybe_stat_at(below.get(), "root");
  make_owned_dir(layer, "work", 0700);
  make_owned_dir(layer, "merged", 0700);
  if (root) {
    make_owned_dir(layer, "upper", root->st_mode & 07777);
    write_file_at(layer, "lower-id", parent_id.str(), 0644);
  } else {
    make_owned_dir(layer, "upper", 0700);
    write_file_at(layer, "lower-id", read_lower_id(below.get()).str(), 0644);
    copy_tree(open_dir_at(below.get(), "upper").get(), open_dir_at(layer, "upper").get(),
              CopyMode::full);
  }
}

void OverlayDriver::create(std::string_view id, std::string_view parent,
                           const CreateOptions& options) {
  const RelPath name = parse_overlay_id(id);
  for (const auto& [key, value] : options.storage_options)
    fail(Code::invalid_argument, "unknown storage option \"{}\": overlay knows none for a layer",
         key);
  if (exists_at(home_.get(), name)) fail(Code::already_exists, "a layer has the id {} already", id);
  const std::optional<IdLock> parent_lock = lock_parent(parent);
  Staging staging(staging_.get(), "");
  fill_layer(staging.fd(), parent);
  sync_tree(staging.fd());
  publish(staging, name);
}

// A layer's directory in the staging directory.
class OverlayDriver::Made final : public NewLayer {
 public:
  Made(const OverlayDriver& driver, RelPath id)
      : driver_(driver), id_(std::move(id)), staging_(driver.staging_.get(), "") {}

  void fill(std::string_view parent, const Made* below, Source& tar) {
    size_bytes_ = driver_.fill_with_layer(staging_.fd(), parent, below, tar);
    root_ = maybe_open_dir_at(staging_.fd(), "root");
  }
  // Of an image; also while it is being committed.
  UniqueFd open_root() const {
    VENEER_CHECK(root_.has_value());
    return dup_fd(root_->get());
  }

  uint64_t size_bytes() const override { return size_bytes_; }
  void commit() override {
    driver_.sync_tree(staging_.fd());
    driver_.publish(staging_, id_);
  }

 private:
  const OverlayDriver& driver_;
  RelPath id_;
  Staging staging_;
  std::optional<UniqueFd> root_;
  uint64_t size_bytes_ = 0;
};

std::unique_ptr<NewLayer> OverlayDriver::make_layer(std::string_view id, std::string_view parent,
                                                    const NewLayer* below, Source& tar) {
  RelPath name = parse_overlay_id(id);
  if (exists_at(home_.get(), name)) fail(Code::already_exists, "a layer has the id {} already", id);
  auto layer = std::make_unique<Made>(*this, std::move(name));
  layer->fill(parent, dynamic_cast<const Made*>(below), tar);
  return layer;
}

uint64_t OverlayDriver::add_layer(std::string_view id, std::string_view parent, Source& tar) {
  const std::unique_ptr<NewLayer> layer = make_layer(id, parent, nullptr, tar);
  layer->commit();
  return layer->size_bytes();
}

// Commits a create() or an add_layer().
void OverlayDriver::publish(Staging& staging, const RelPath& id) const {
  try {
    staging.publish(home_.get(), id);
  } catch (const SysError& error) {
    if (error.error_number() != EEXIST) throw;
    fail(Code::already_exists, "a layer has the id {} already", id.str());
  }
  sync_names(home_.get());
}

void OverlayDriver::remove(std::string_view id) {
  const RelPath name = parse_overlay_id(id);
  IdLock lock = locks_->lock(name, IdLock::Mode::exclusive);
  const auto layer = maybe_open_dir_at(home_.get(), name);
  if (layer) {
    (void)unmount_at(layer->get(), "merged", Unmount::detach);
    failpoint::point("overlay.remove.before_commit");
    remove_via_staging(staging_.get(), home_.get(), name);
  }
  lock.forget();
  if (!layer) fail(Code::not_found, "no layer has the id {}", id);
}

// --- mounting ---

// root/ is the truth also where a crash left an upper/ beside it.
std::string OverlayDriver::get(std::string_view id, std::string_view mount_label) {
  const RelPath name = parse_overlay_id(id);
  IdLock lock = locks_->lock(name, IdLock::Mode::exclusive);
  const UniqueFd layer = open_existing(name, lock);
  if (exists_at(layer.get(), "root")) return path(name, "root");
  if (try_make_dir_at(layer.get(), "merged", 0700))
    chown_at(layer.get(), "merged", root_uid_, root_gid_);
  uint64_t count = 0;
  if (is_mount_point_at(layer.get(), "merged")) {
    count = lock.count();
  } else {
    lock.set_count(0);  // takes the room that the count needs, before there is a mount
    mount_layer(name, layer.get(), mount_label);
  }
  lock.set_count(count + 1);
  return path(name, "merged");
}

void OverlayDriver::mount_layer(const RelPath& id, int layer, std::string_view label) const {
  (void)open_lower_root(layer);
  const UniqueFd mount = mount_overlay({.lower = {path(read_lower_id(layer), "root")},
                                        .upper = path(id, "upper"),
                                        .work = path(id, "work"),
                                        .label = std::string(label),
                                        .options = {kNoIndex}});
  // Inside a user namespace overlayfs moves directories through it as the mapped root.
  chown_at(open_dir_at(layer, "work").get(), "work", root_uid_, root_gid_);
  attach_mount(mount.get(), layer, "merged");
}

void OverlayDriver::put(std::string_view id) {
  const RelPath name = parse_overlay_id(id);
  IdLock lock = locks_->lock(name, IdLock::Mode::exclusive);
  const UniqueFd layer = open_existing(name, lock);
  if (!exists_at(layer.get(), "merged") || !is_mount_point_at(layer.get(), "merged"))
    return lock.set_count(0);
  const uint64_t count = lock.count();
  if (count <= 1) (void)unmount_at(layer.get(), "merged");
  lock.set_count(count <= 1 ? 0 : count - 1);
}

// --- applying ---

uint64_t OverlayDriver::apply_to_tree(int root, Source& tar, const ApplyOptions& options) const {
  if (is_volatile_) return apply_layer(tar, root, options);
  WriteBehind write_behind(root);
  CountingSource counted(tar, [&](size_t bytes) { write_behind.wrote(bytes); });
  const uint64_t size = apply_layer(counted, root, options);
  write_behind.finish();
  return size;
}

// Applies through a mount of its own of <holder>/upper, which no one else sees and which ends with
// it.
uint64_t OverlayDriver::apply_to_upper(int holder, int lower_root, Source& tar,
                                       ApplyOptions options) const {
  const std::string holder_path = path_of(holder);
  const UniqueFd mount = mount_overlay({.lower = {path_of(lower_root)},
                                        .upper = holder_path + "/upper",
                                        .work = holder_path + "/work",
                                        .options = {kNoIndex}});
  options.through_overlay = true;
  return apply_layer(tar, mount.get(), options);
}

// The content of a new layer: an image over an image, a container's upper over a container's.
uint64_t OverlayDriver::fill_with_layer(int layer, std::string_view parent, const Made* below,
                                        Source& tar) const {
  const ApplyOptions options{.id_maps = id_maps()};
  std::optional<IdLock> parent_lock = lock_parent(parent);
  const auto parent_root = below ? below->open_root() : open_parent_root(parent);
  if (!parent.empty() && !parent_root) {
    fill_layer(layer, parent);
    parent_lock.reset();
    return apply_to_upper(layer, open_lower_root(layer).get(), tar, options);
  }
  fill_layer(layer, "");
  const UniqueFd root = open_dir_at(layer, "root");
  if (parent_root) copy_tree(parent_root->get(), root.get(), CopyMode::link);
  parent_lock.reset();
  return apply_to_tree(root.get(), tar, options);
}

uint64_t OverlayDriver::apply_diff(std::string_view id, std::string_view parent, Source& tar) {
  const RelPath name = parse_overlay_id(id);
  IdLock lock = locks_->lock(name, IdLock::Mode::exclusive);
  const UniqueFd layer = open_existing(name, lock);
  const bool has_root = exists_at(layer.get(), "root");
  if (!has_root && exists_at(layer.get(), "merged") && is_mount_point_at(layer.get(), "merged"))
    fail(Code::failed_precondition, "layer {} is mounted: put it first", id);
  const bool over_image = open_parent_root(parent).has_value();
  if (has_root && over_image)
    fail(Code::failed_precondition, "layer {} has its content already", id);
  if (over_image) return become_image(layer.get(), parent, tar);
  return has_root ? replace_root(layer.get(), tar) : replace_upper(layer.get(), tar);
}

// A container's layer, fresh from create(), becomes an image: the parent's tree by hard links, and
// the layer on top.
uint64_t OverlayDriver::become_image(int layer, std::string_view parent, Source& tar) const {
  Staging root(layer, kOwnTmpRootPrefix);
  {
    const std::optional<IdLock> parent_lock = lock_parent(parent);
    const auto parent_root = open_parent_root(parent);
    if (!parent_root) fail(Code::not_found, "the parent {} is gone", parent);
    copy_tree(parent_root->get(), root.fd(), CopyMode::link);
  }
  const uint64_t size = apply_to_tree(root.fd(), tar, whole_tar());
  sync_tree(root.fd());
  root.publish(layer, "root");  // the commit point
  sync_names(layer);
  finish_image(layer);
  return size;
}

// An image without a parent: its own tree stays as it is until the changed copy takes its place.
uint64_t OverlayDriver::replace_root(int layer, Source& tar) const {
  const UniqueFd old_root = open_dir_at(layer, "root");
  Staging root(layer, kOwnTmpRootPrefix);
  copy_tree(old_root.get(), root.fd(), CopyMode::link);
  const uint64_t size = apply_to_tree(root.fd(), tar, whole_tar());
  sync_tree(root.fd());
  failpoint::point("overlay.replace_root.before_commit");
  exchange_at(layer, root.name(), layer, "root");  // the commit point
  sync_names(layer);
  root.remove();
  return size;
}

uint64_t OverlayDriver::replace_upper(int layer, Source& tar) const {
  Staging holder(layer, kOwnTmpRootPrefix);
  make_owned_dir(holder.fd(), "upper", 0755);
  make_owned_dir(holder.fd(), "work", 0700);
  copy_tree(open_dir_at(layer, "upper").get(), open_dir_at(holder.fd(), "upper").get(),
            CopyMode::link);
  const uint64_t size = apply_to_upper(holder.fd(), open_lower_root(layer).get(), tar, whole_tar());
  sync_tree(holder.fd());
  failpoint::point("overlay.replace_upper.before_commit");
  exchange_at(holder.fd(), "upper", layer, "upper");  // the commit point
  sync_names(layer);
  holder.remove();
  return size;
}

// --- small things ---

UniqueFd OverlayDriver::open_existing(const RelPath& id, IdLock& lock) const {
  auto layer = maybe_open_dir_at(home_.get(), id);
  if (!layer) {
    lock.forget();
    fail(Code::not_found, "no layer has the id {}", id.str());
  }
  return std::move(*layer);
}

// While a tree is copied it must not be removed: a half-removed directory reads as a smaller one.
std::optional<IdLock> OverlayDriver::lock_parent(std::string_view parent) const {
  if (parent.empty()) return std::nullopt;
  return locks_->lock(parse_overlay_id(parent), IdLock::Mode::shared);
}

std::optional<UniqueFd> OverlayDriver::open_parent_root(std::string_view parent) const {
  if (parent.empty()) return std::nullopt;
  const auto layer = maybe_open_dir_at(home_.get(), parse_overlay_id(parent));
  if (!layer) fail(Code::not_found, "no parent layer has the id {}", parent);
  return maybe_open_dir_at(layer->get(), "root");
}

void OverlayDriver::sync_tree(int fd) const {
  if (!is_volatile_) sync_file_system(fd);
}

void OverlayDriver::sync_names(int dir) const {
  if (!is_volatile_) sync_fd(dir);
}

}  // namespace

std::unique_ptr<Driver> open_overlay_driver(const DriverOptions& options) {
  return std::make_unique<OverlayDriver>(options);
}

}  // namespace veneer
