#include "store/usage.h"

#include <sys/stat.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"
#include "mount/mount.h"

namespace veneer {

namespace {

constexpr uint64_t kFewInodes = 1000;
constexpr uint64_t kBlockBytes = 512;

// A directory on the way down.
struct Level {
  explicit Level(UniqueFd fd) : dir(std::move(fd)), reader(dir.get()) {}
  UniqueFd dir;
  DirReader reader;
};

using Visit = std::function<void(int dir, PathView name, const struct stat& st)>;

// Visits everything below `top` that is on its device, a directory before what is in it.
void walk_tree(int top, const Visit& visit) {
  const dev_t device = stat_fd(top).st_dev;
  std::vector<std::unique_ptr<Level>> levels;
  levels.push_back(std::make_unique<Level>(open_dir_at(top, ".")));
  while (!levels.empty()) {
    Level& level = *levels.back();
    const std::optional<DirEntry> entry = level.reader.next();
    if (!entry) {
      levels.pop_back();
      continue;
    }
    const auto st = maybe_stat_at(level.dir.get(), entry->path());
    if (!st || st->st_dev != device) continue;
    visit(level.dir.get(), entry->path(), *st);
    if (!S_ISDIR(st->st_mode)) continue;
    if (levels.size() > limits::kPathDepth)
      fail(Code::resource_exhausted, "a tree deeper than {} directories", limits::kPathDepth);
    if (auto below = maybe_open_dir_at(level.dir.get(), entry->path()))
      levels.push_back(std::make_unique<Level>(std::move(*below)));
  }
}

void visit_files(int top, const std::function<void(int fd)>& visit) {
  walk_tree(top, [&](int dir, PathView name, const struct stat& st) {
    if (!S_ISREG(st.st_mode)) return;
    // Not to wait for the writer of a pipe, should there be one by now.
    if (const auto file = maybe_open_at(dir, name, O_RDONLY | O_NONBLOCK)) visit(file->get());
  });
}

}  // namespace

Usage measure_tree(int dir) {
  const struct stat top = stat_fd(dir);
  Usage usage{.size_bytes = static_cast<uint64_t>(top.st_blocks) * kBlockBytes, .inodes = 1};
  std::set<ino_t> seen;
  walk_tree(dir, [&](int, PathView, const struct stat& st) {
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1 && !seen.insert(st.st_ino).second) return;
    usage.size_bytes += static_cast<uint64_t>(st.st_blocks) * kBlockBytes;
    ++usage.inodes;
  });
  return usage;
}

// Where the journal is in order, one sync of something changed last carries all names and
// attributes from before. What is left is the data, of which all is sent off before anything is
// waited for, so that the blocks it needs are in that journal too.
void sync_tree(int dir, const Usage& usage) {
  if (usage.inodes >= kFewInodes || !journals_in_order(dir)) return sync_file_system(dir);
  visit_files(dir, [](int fd) { start_sync(fd, 0, 0); });
  visit_files(dir, [](int fd) { sync_data(fd); });
  const struct stat st = stat_fd(dir);
  set_times_fd(dir, st.st_atim, st.st_mtim);  // a change, though no difference
  sync_fd(dir);
}

}  // namespace veneer
