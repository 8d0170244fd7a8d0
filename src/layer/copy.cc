#include "layer/copy.h"

#include <dirent.h>
#include <sys/stat.h>

#include <map>
#include <string>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/limits.h"

namespace veneer {

namespace {

class TreeCopier {
 public:
  TreeCopier(int from, int to, CopyMode mode)
      : to_(to), device_(stat_fd(from).st_dev), mode_(mode) {}

  // `to_path_` is the path of `to` below the copy's top.
  void copy_directory(int from, int to, size_t depth) {
    if (depth > limits::kPathDepth)
      fail(Code::resource_exhausted, "a tree deeper than {} directories ({})", limits::kPathDepth,
           to_path_.str().substr(0, 80));
    DirReader reader(from);
    while (const std::optional<DirEntry> entry = reader.next()) {
      to_path_.push(entry->name());
      copy_entry(from, to, *entry, depth);
      to_path_.pop();
    }
    copy_attributes(from, ".", to, ".", stat_fd(from));
  }

 private:
  void copy_entry(int from, int to, const DirEntry& entry, size_t depth) {
    const PathView name = entry.path();
    const bool may_be_dir = entry.type() == DT_DIR || entry.type() == DT_UNKNOWN;
    if (mode_ == CopyMode::link && !may_be_dir) return link_entry(from, to, name);
    const struct stat st = stat_at(from, name);
    if (S_ISDIR(st.st_mode)) {
      if (st.st_dev != device_)
        fail(Code::failed_precondition, "{} is a mount point", to_path_.str());
      make_dir_at(to, name, 0700);
      const UniqueFd child_from = open_dir_at(from, name);
      const UniqueFd child_to = open_dir_at(to, name);
      copy_directory(child_from.get(), child_to.get(), depth + 1);
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
    if (st.st_nlink > 1) {
      const auto [copy, is_new] = copies_.try_emplace(st.st_ino, to_path_);
      if (!is_new) {
        if (try_link_at(to_, copy->second, to, name)) return;
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

  int to_;
  dev_t device_;
  CopyMode mode_;
  RelPath to_path_;
  std::map<ino_t, RelPath> copies_;
};

}  // namespace

void copy_tree(int from, int to, CopyMode mode) {
  TreeCopier(from, to, mode).copy_directory(from, to, 0);
}

}  // namespace veneer
