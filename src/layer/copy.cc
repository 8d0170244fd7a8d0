#include "layer/copy.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <map>
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

// A directory to copy, both sides open. `to_path` is the path below the copy's top.
struct Directory {
  UniqueFd from;
  UniqueFd to;
  RelPath to_path;
  size_t depth = 0;
};

// Through which a copier that meets a directory gives it to one that has nothing to do.
class Exchange {
 public:
  Exchange(size_t copiers, Directory top) : copiers_(copiers) { given_.push_back(std::move(top)); }

  // Whether somebody waits.
  bool is_wanted() const { return wanted_.load(std::memory_order_relaxed); }
  // Whether nothing is left to be done, or one copier has failed.
  bool is_over() const { return is_over_.load(std::memory_order_relaxed); }

  void give(Directory directory) {
    const std::lock_guard lock(mutex_);
    given_.push_back(std::move(directory));
    wanted_ = waiting_ > given_.size();
    changed_.notify_one();
  }

  // Nothing when it is over: when all wait, nobody will give any more.
  std::optional<Directory> take() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    if (given_.empty() && waiting_ == copiers_) end();
    wanted_ = waiting_ > given_.size();
    changed_.wait(lock, [this] { return !given_.empty() || is_over_; });
    if (is_over_) return std::nullopt;
    Directory directory = std::move(given_.back());
    given_.pop_back();
    --waiting_;
    return directory;
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

  const size_t copiers_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Directory> given_;
  size_t waiting_ = 0;
  std::atomic<bool> wanted_ = false;
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
  TreeCopier(int top, CopyMode mode, dev_t device, Exchange& exchange, Copies& copies)
      : top_(top), mode_(mode), device_(device), exchange_(exchange), copies_(copies) {}

  void run() noexcept {
    try {
      while (std::optional<Directory> directory = exchange_.take()) {
        to_path_ = std::move(directory->to_path);
        copy_directory(directory->from.get(), directory->to.get(), directory->depth);
      }
    } catch (...) {
      exchange_.fail_with(std::current_exception());
    }
  }

 private:
  // `to_path_` is the path of `to`. What is in the directories of this one changes none of its
  // attributes: others may be at it still.
  void copy_directory(int from, int to, size_t depth) {
    if (depth > limits::kPathDepth)
      fail(Code::resource_exhausted, "a tree deeper than {} directories ({})", limits::kPathDepth,
           to_path_.str().substr(0, 80));
    DirReader reader(from);
    while (const std::optional<DirEntry> entry = reader.next()) {
      if (exchange_.is_over()) return;
      to_path_.push(entry->name());
      copy_entry(from, to, *entry, depth);
      to_path_.pop();
    }
    copy_attributes(from, ".", to, ".", stat_fd(from));
  }

  void copy_entry(int from, int to, const DirEntry& entry, size_t depth) {
    const PathView name = entry.path();
    const bool may_be_dir = entry.type() == DT_DIR || entry.type() == DT_UNKNOWN;
    if (mode_ == CopyMode::link && !may_be_dir) return link_entry(from, to, name);
    const struct stat st = stat_at(from, name);
    if (S_ISDIR(st.st_mode)) {
      if (st.st_dev != device_)
        fail(Code::failed_precondition, "{} is a mount point", to_path_.str());
      make_dir_at(to, name, 0700);
      UniqueFd child_from = open_dir_at(from, name);
      UniqueFd child_to = open_dir_at(to, name);
      if (exchange_.is_wanted()) {
        exchange_.give({std::move(child_from), std::move(child_to), to_path_, depth + 1});
      } else {
        copy_directory(child_from.get(), child_to.get(), depth + 1);
      }
    } else if (mode_ == CopyMode::link) {
      link_entry(from, to, name);
    } else {
      copy_inode(from, to, name, st);
    }
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
    chown_at(to, to_name, st.st_uid, st.st_gid);
    for (const Xattr& xattr : read_xattrs_at(from, from_name))
      set_xattr_at(to, to_name, xattr.name.c_str(), xattr.value);
    if (!S_ISLNK(st.st_mode)) chmod_at(to, to_name, st.st_mode & 07777);
    set_times_at(to, to_name, st.st_atim, st.st_mtim);
  }

  int top_;  // of the copy
  CopyMode mode_;
  dev_t device_;
  Exchange& exchange_;
  Copies& copies_;
  RelPath to_path_;
};

}  // namespace

void copy_tree(int from, int to, CopyMode mode) {
  const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1U, kMostCopiers);
  Exchange exchange(count, {dup_fd(from), dup_fd(to), RelPath(), 0});
  Copies copies;
  const auto copy = [&, device = stat_fd(from).st_dev] {
    TreeCopier(to, mode, device, exchange, copies).run();
  };
  {
    std::vector<std::jthread> others;
    try {
      while (others.size() + 1 < count) others.emplace_back(copy);
    } catch (...) {
      exchange.fail_with(std::current_exception());  // those that there are wait for the others
    }
    copy();
  }
  exchange.rethrow_error();
}

}  // namespace veneer
