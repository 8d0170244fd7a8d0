#include "layer/copy.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"

namespace veneer {

namespace {

// Threads beyond these wait for the file system more than they copy.
constexpr unsigned kMostCopiers = 4;

// A directory of the original and its copy, open.
struct Sides {
  UniqueFd from;
  UniqueFd to;
};

// A directory whose copy is there, and empty.
struct Directory {
  std::shared_ptr<const Sides> parent;  // the top itself for the top
  RelPath path;                         // below the top
  size_t depth = 0;

  std::shared_ptr<const Sides> open() const {
    return std::make_shared<const Sides>(open_dir_at(parent->from.get(), path.leaf()),
                                         open_dir_at(parent->to.get(), path.leaf()));
  }
};

// The directories that wait for a copier. The last ones are taken first, so that few parents are
// open at a time.
class Waiting {
 public:
  explicit Waiting(Directory top) { directories_.push_back(std::move(top)); }

  // Whether nothing is left to be done, or one copier has failed.
  bool is_over() const { return is_over_.load(std::memory_order_relaxed); }

  // Nothing when it is over.
  std::optional<Directory> take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !directories_.empty() || is_over_; });
    if (is_over_) return std::nullopt;
    Directory directory = std::move(directories_.back());
    directories_.pop_back();
    return directory;
  }

  // What was taken is copied but for the directories in it, which are added.
  void finish(std::vector<Directory> below) {
    const std::lock_guard lock(mutex_);
    unfinished_ += below.size();
    --unfinished_;
    std::ranges::move(below, std::back_inserter(directories_));
    if (unfinished_ == 0) end();
    if (!below.empty()) changed_.notify_all();
  }

  void fail_with(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
    end();
  }
  void rethrow_error() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void end() {
    is_over_ = true;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Directory> directories_;
  size_t unfinished_ = 1;  // those, and what copiers are at
  std::atomic<bool> is_over_ = false;
  std::exception_ptr error_;
};

// The copies of inodes of several names, so that they share one too.
struct Copies {
  std::mutex mutex;
  std::map<ino_t, RelPath> paths;  // below the copy's top
};

// One thread's part of a copy.
class TreeCopier {
 public:
  TreeCopier(int top, CopyMode mode, dev_t device, Waiting& waiting, Copies& copies)
      : top_(top), mode_(mode), device_(device), waiting_(waiting), copies_(copies) {}

  void run() noexcept {
    try {
      while (std::optional<Directory> directory = waiting_.take())
        waiting_.finish(copy_directory(std::move(*directory)));
    } catch (...) {
      waiting_.fail_with(std::current_exception());
    }
  }

 private:
  // Returns the directories in it. What others make in those changes none of its attributes.
  std::vector<Directory> copy_directory(Directory directory) {
    if (directory.depth > limits::kPathDepth)
      fail(Code::resource_exhausted, "a tree deeper than {} directories ({})", limits::kPathDepth,
           directory.path.str().substr(0, 80));
    const std::shared_ptr<const Sides> sides = directory.open();
    directory.parent.reset();
    to_path_ = std::move(directory.path);
    std::vector<Directory> below;
    DirReader reader(sides->from.get());
    while (const std::optional<DirEntry> entry = reader.next()) {
      if (waiting_.is_over()) break;
      to_path_.push(entry->name());
      if (copy_entry(*sides, *entry)) below.push_back({sides, to_path_, directory.depth + 1});
      to_path_.pop();
    }
    const int from = sides->from.get();
    copy_attributes(from, ".", sides->to.get(), ".", stat_fd(from));
    return below;
  }

  // `to_path_` is its path. True for a directory, whose entries are still to be copied.
  bool copy_entry(const Sides& sides, const DirEntry& entry) {
    const int from = sides.from.get();
    const int to = sides.to.get();
    const PathView name = entry.path();
    const bool may_be_dir = entry.type() == DT_DIR || entry.type() == DT_UNKNOWN;
    if (mode_ == CopyMode::link && !may_be_dir) {
      link_entry(from, to, name);
      return false;
    }
    const struct stat st = stat_at(from, name);
    if (S_ISDIR(st.st_mode)) {
      if (st.st_dev != device_)
        fail(Code::failed_precondition, "{} is a mount point", to_path_.str());
      make_dir_at(to, name, st.st_mode & 0777);
      return true;
    }
    if (mode_ == CopyMode::link) {
      link_entry(from, to, name);
    } else {
      copy_inode(from, to, name, st);
    }
    return false;
  }

  void link_entry(int from, int to, PathView name) {
    if (!try_link_at(from, name, to, name)) copy_inode(from, to, name, stat_at(from, name));
  }

  // Makes a new inode, or a link to the one already made for the same original.
  void copy_inode(int from, int to, PathView name, const struct stat& st) {
    std::unique_lock lock(copies_.mutex, std::defer_lock);
    if (st.st_nlink > 1) {
      lock.lock();
      const auto [copy, is_new] = copies_.paths.try_emplace(st.st_ino, to_path_);
      if (!is_new) {
        if (try_link_at(top_, copy->second, to, name)) return;
        copy->second = to_path_;
      }
    }
    switch (st.st_mode & S_IFMT) {
      case S_IFREG: {
        const UniqueFd file_from = open_at(from, name, O_RDONLY);
        const UniqueFd file_to = open_at(to, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
        copy_data(file_from.get(), file_to.get());
        break;
      }
      case S_IFLNK:
        make_symlink_at(read_link_at(from, name), to, name);
        break;
      default:
        make_node_at(to, name, (st.st_mode & S_IFMT) | 0600, st.st_rdev);
    }
    copy_attributes(from, name, to, name, st);
  }

  // In the order that loses nothing: chown clears set-id bits and capabilities, and everything
  // changes the times.
  static void copy_attributes(int from, PathView from_name, int to, PathView to_name,
                              const struct stat& st) {
    const std::vector<Xattr> xattrs = read_xattrs_at(from, from_name);
    if (!xattrs.empty()) chown_at(to, to_name, st.st_uid, st.st_gid);
    for (const Xattr& xattr : xattrs) set_xattr_at(to, to_name, xattr.name.c_str(), xattr.value);
    set_owner_and_mode_at(to, to_name, st.st_uid, st.st_gid, st.st_mode & 07777);
    set_times_at(to, to_name, st.st_atim, st.st_mtim);
  }

  int top_;  // of the copy
  CopyMode mode_;
  dev_t device_;
  Waiting& waiting_;
  Copies& copies_;
  RelPath to_path_;
};

}  // namespace

void copy_tree(int from, int to, CopyMode mode) {
  const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1U, kMostCopiers);
  Waiting waiting({std::make_shared<const Sides>(dup_fd(from), dup_fd(to)), RelPath(), 0});
  Copies copies;
  const auto copy = [&, device = stat_fd(from).st_dev] {
    TreeCopier(to, mode, device, waiting, copies).run();
  };
  {
    std::vector<std::jthread> others;
    try {
      while (others.size() + 1 < count) others.emplace_back(copy);
    } catch (...) {
      waiting.fail_with(std::current_exception());  // those that there are wait for the others
    }
    copy();
  }
  waiting.rethrow_error();
}

}  // namespace veneer
