#include "store/layout.h"

#include <sys/file.h>

#include <exception>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "mount/mount.h"

namespace veneer {

namespace {

// Each may meet another process that empties the directory; that all do is no accident.
constexpr int kStagingAttempts = 100;

// A directory of the store, made if it is not there. `is_new` is set then, else left alone.
UniqueFd open_or_make_dir_at(int dir, PathView name, bool& is_new) {
  if (auto fd = maybe_open_dir_at(dir, name)) return std::move(*fd);
  if (try_make_dir_at(dir, name, 0700)) is_new = true;
  return open_dir_at(dir, name);
}

bool try_lock(int dir, int wait = LOCK_NB) {
  while (::flock(dir, LOCK_EX | wait) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) fail_errno(errno, "flock {}", path_of(dir));
  }
  return true;
}

// Deletes a tree of the store. A snapshot may still be mounted inside.
void remove_unused(int dir, const RelPath& name) {
  const RelPath merged = name / kMergedName.c_str();
  while (is_mount_point_at(dir, merged)) (void)unmount_at(dir, merged, Unmount::detach);
  (void)remove_tree_at(dir, name);
}

// Nothing if another process has it (`wait` is LOCK_NB, or 0), or has deleted it just now.
void remove_unlocked(int dir, const RelPath& name, int wait) {
  const std::optional<struct stat> status = maybe_stat_at(dir, name);
  if (!status) return;
  if (!S_ISDIR(status->st_mode)) {
    (void)remove_tree_at(dir, name);
    return;
  }
  const std::optional<UniqueFd> tree = maybe_open_dir_at(dir, name);
  if (tree && try_lock(tree->get(), wait)) remove_unused(dir, name);
}

void remove_all_unlocked(int dir, int wait, std::exception_ptr& first_error) {
  for (const std::string& name : list_dir(dir)) {
    try {
      remove_unlocked(dir, RelPath::parse_name(name, "name"), wait);
    } catch (const Error&) {
      if (!first_error) first_error = std::current_exception();
    }
  }
}

RelPath random_path() {
  return RelPath::parse_name(random_name(), "name");
}

// No descriptor if empty_trash() came between the making and the locking.
UniqueFd try_make_locked(int dir, const RelPath& name) {
  try {
    make_dir_at(dir, name, 0700);
  } catch (const SysError& error) {
    // It looks at what it has made, for the umask.
    if (error.error_number() != ENOENT) throw;
    return {};
  }
  std::optional<UniqueFd> made = maybe_open_dir_at(dir, name);
  if (!made || !try_lock(made->get()) || !exists_at(dir, name)) return {};
  return std::move(*made);
}

}  // namespace

Layout::Layout(const std::string& root) {
  OpenedDir opened = open_or_make_root(root, 0700);
  root_ = std::move(opened.fd);
  path_ = path_of(root_.get());
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

void Layout::discard(int dir, const RelPath& name) const {
  rename_at(dir, name, trash_.get(), random_path());
}

StagingDir::StagingDir(const Layout& layout) : layout_(layout) {
  for (int attempt = 0; attempt < kStagingAttempts; ++attempt) {
    name_ = random_path();
    dir_ = try_make_locked(layout_.staging(), name_);
    if (dir_) return;
  }
  fail(Code::unavailable, "{}/staging: new directories do not stay", layout_.path());
}

StagingDir::StagingDir(StagingDir&&) noexcept = default;

StagingDir::~StagingDir() {
  if (!dir_ || is_published_) return;
  try {
    remove_unused(layout_.staging(), name_);
  } catch (const std::exception&) {
    // The error that led here is the one to report; empty_trash() gets what is left.
  }
}

void StagingDir::publish(int dir, const RelPath& name, bool is_volatile) {
  rename_at(layout_.staging(), name_, dir, name);
  is_published_ = true;
  if (is_volatile) return;
  try {
    sync_fd(dir);
  } catch (const Error&) {
    // Whoever hears of an error may try again, with the same name.
    rename_at(dir, name, layout_.staging(), name_);
    is_published_ = false;
    throw;
  }
}

void empty_trash(const Layout& layout, DeletedByOthers others) {
  std::exception_ptr first_error;
  remove_all_unlocked(layout.trash(), others == DeletedByOthers::awaited ? 0 : LOCK_NB,
                      first_error);
  remove_all_unlocked(layout.staging(), LOCK_NB, first_error);
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace veneer
