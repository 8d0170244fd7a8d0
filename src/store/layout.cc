#include "store/layout.h"

#include <exception>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/lock.h"
#include "mount/mount.h"

namespace veneer {

namespace {

// A directory of the store, made if it is not there. `is_new` is set then, else left alone.
UniqueFd open_or_make_dir_at(int dir, PathView name, bool& is_new) {
  if (auto fd = maybe_open_dir_at(dir, name)) return std::move(*fd);
  if (try_make_dir_at(dir, name, 0700)) is_new = true;
  return open_dir_at(dir, name);
}

// Nothing if another process has it and is left to it, or has deleted it just now.
void remove_unlocked(int dir, const RelPath& name, DeletedByOthers others) {
  const std::optional<struct stat> status = maybe_stat_at(dir, name);
  if (!status) return;
  if (!S_ISDIR(status->st_mode)) {
    try {
      (void)remove_tree_at(dir, name);
    } catch (const SysError& error) {
      if (error.error_number() != ENOENT) throw;  // another one was quicker
    }
    return;
  }
  const std::optional<UniqueFd> tree = maybe_open_dir_at(dir, name);
  if (!tree) return;
  if (others == DeletedByOthers::awaited)
    lock_fd(tree->get());
  else if (!try_lock_fd(tree->get()))
    return;
  (void)remove_tree_and_mounts_at(dir, name);  // a snapshot may still be mounted inside
}

void remove_all_unlocked(int dir, DeletedByOthers others, std::exception_ptr& first_error) {
  for (const std::string& name : list_dir(dir)) {
    try {
      remove_unlocked(dir, RelPath::parse_name(name, "name"), others);
    } catch (const Error&) {
      if (!first_error) first_error = std::current_exception();
    }
  }
}

RelPath random_path() {
  return RelPath::parse_name(random_name(), "name");
}

}  // namespace

Layout::Layout(const std::string& root) {
  OpenedDir opened = open_or_make_root(root, 0700);
  root_ = std::move(opened.fd);
  path_ = path_of(root_.get());
  is_journal_in_order_ = journals_in_order(root_.get());
  bool is_new = false;
  const UniqueFd layers = open_or_make_dir_at(root_.get(), "layers", is_new);
  const UniqueFd blobs = open_or_make_dir_at(root_.get(), "blobs", is_new);
  layers_ = open_or_make_dir_at(layers.get(), "sha256", is_new);
  blobs_ = open_or_make_dir_at(blobs.get(), "sha256", is_new);
  snapshots_ = open_or_make_dir_at(root_.get(), "snapshots", is_new);
  staging_ = open_or_make_dir_at(root_.get(), "staging", is_new);
  trash_ = open_or_make_dir_at(root_.get(), "trash", is_new);
  if (is_new) {
    sync_fd(layers.get());
    sync_fd(blobs.get());
    sync_fd(root_.get());
  }
  if (opened.is_new) sync_fd(open_root(path_.substr(0, path_.rfind('/') + 1)).get());
}

std::string Layout::snapshot_path(int64_t id) const {
  return fmt::format("{}/snapshots/{}", path_, id);
}

std::string Layout::layer_path(const Digest& diff_id) const {
  return fmt::format("{}/layers/sha256/{}", path_, diff_id.hex());
}

RelPath Layout::snapshot_name(int64_t id) {
  return RelPath::parse_name(fmt::format("{}", id), "snapshot");
}

RelPath Layout::digest_name(const Digest& digest) {
  return RelPath::parse_name(digest.hex(), "digest");
}

UniqueFd Layout::open_snapshot(int64_t id) const {
  auto snapshot = maybe_open_dir_at(snapshots(), snapshot_name(id));
  if (!snapshot) fail(Code::corrupt, "snapshot {} has no directory", id);
  return std::move(*snapshot);
}

UniqueFd Layout::open_upper(int64_t id) const {
  auto upper = maybe_open_dir_at(open_snapshot(id).get(), kUpperName);
  if (!upper) fail(Code::corrupt, "snapshot {} has no {}", id, kUpperName.c_str());
  return std::move(*upper);
}

void Layout::discard(int dir, const RelPath& name) const {
  rename_at(dir, name, trash_.get(), random_path());
}

StagingDir::StagingDir(const Layout& layout) : layout_(layout) {
  LockedDir made = make_locked_dir(layout_.staging(), "");
  name_ = std::move(made.name);
  dir_ = std::move(made.fd);
}

StagingDir::StagingDir(StagingDir&&) noexcept = default;

StagingDir::~StagingDir() {
  if (!dir_ || is_published_) return;
  try {
    (void)remove_tree_and_mounts_at(layout_.staging(), name_);
  } catch (const std::exception&) {
    // The error that led here is the one to report; empty_trash() gets what is left.
  }
}

void StagingDir::publish(int dir, const RelPath& name, Durable durable) {
  rename_at(layout_.staging(), name_, dir, name);
  is_published_ = true;
  if (durable == Durable::later) return;
  try {
    // Otherwise btrfs may keep the directory without its names.
    if (!layout_.is_journal_in_order()) sync_fd(dir_.get());
    sync_fd(dir);
  } catch (const Error&) {
    // Whoever hears of an error may try again, with the same name.
    rename_at(dir, name, layout_.staging(), name_);
    is_published_ = false;
    throw;
  }
}

std::vector<Leftover> list_leftovers(const Layout& layout) {
  std::vector<Leftover> leftovers;
  for (const std::string& name : list_dir(layout.trash()))
    leftovers.push_back({"trash/" + name, "removed, and not deleted yet"});
  for (const std::string& name : list_dir(layout.staging())) {
    const auto staged = maybe_open_dir_at(layout.staging(), RelPath::parse_name(name, "name"));
    if (staged && try_lock_fd(staged->get()))
      leftovers.push_back({"staging/" + name, "its process died"});
  }
  return leftovers;
}

void empty_trash(const Layout& layout, DeletedByOthers others) {
  std::exception_ptr first_error;
  remove_all_unlocked(layout.trash(), others, first_error);
  remove_all_unlocked(layout.staging(), DeletedByOthers::left, first_error);
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace veneer
