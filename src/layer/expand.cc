#include "layer/expand.h"

#include <unistd.h>

#include <map>
#include <vector>

#include "base/at.h"
#include "base/error.h"
#include "layer/entry_rules.h"
#include "layer/xattr_policy.h"

namespace veneer {

namespace {

bool is_device(mode_t mode) {
  return S_ISCHR(mode) || S_ISBLK(mode);
}

constexpr std::string_view kOpaqueKey = "opaque";
// Without it overlayfs does not look for whiteouts when it lists a directory that only one layer
// has.
constexpr std::string_view kOriginKey = "origin";

class Expander final : public TreeWriter {
 public:
  Expander(const LayerTree& tree, int tar, const LowerView* lower, int top,
           const ExpandOptions& options)
      : tree_(tree), tar_(tar), lower_(lower), top_(top), options_(options) {}

  void enter(std::string_view name, const Directory& directory) override {
    if (path_.empty()) {
      path_.push_back({dup_fd(top_), directory});
      return;
    }
    at_.push(name);
    make_dir_at(dir(), at_.leaf(), 0700);
    UniqueFd fd = open_dir_at(dir(), at_.leaf());
    path_.push_back({std::move(fd), directory});
  }

  // The attributes come when nothing is made in the directory any more.
  void leave() override {
    const auto& [fd, directory] = path_.back();
    if (directory.opaque) set_xattr_at(fd.get(), ".", overlay_name(kOpaqueKey).c_str(), "y");
    if (directory.has_whiteouts) set_xattr_at(fd.get(), ".", overlay_name(kOriginKey).c_str(), "");
    set_attributes(fd.get(), ".", directory.attributes);
    path_.pop_back();
    if (!at_.empty()) at_.pop();
  }

  void add(std::string_view name, InodeId id, const TreeInode& inode) override {
    if (options_.userxattr && is_device(inode.attributes.mode)) return;
    at_.push(name);
    const auto [first, is_new] = first_names_.try_emplace(id, at_);
    if (!is_new) {
      link_at(top_, first->second, dir(), at_.leaf());
    } else {
      make_inode(inode);
    }
    at_.pop();
  }

  void add_whiteout(std::string_view name) override {
    at_.push(name);
    make_node_at(dir(), at_.leaf(), S_IFCHR, 0);
    at_.pop();
  }

  void add_lower_link(std::string_view name, const RelPath& target) override {
    VENEER_CHECK(lower_ != nullptr);
    at_.push(name);
    const auto [first, is_new] = copied_up_.try_emplace(target, at_);
    if (!is_new) {
      link_at(top_, first->second, dir(), at_.leaf());
    } else {
      copy_up(target);
    }
    at_.pop();
  }

 private:
  struct Level {
    UniqueFd fd;
    Directory directory;
  };

  int dir() const { return path_.back().fd.get(); }
  std::string overlay_name(std::string_view key) const {
    return fmt::format("{}.overlay.{}", options_.userxattr ? "user" : "trusted", key);
  }

  void make_inode(const TreeInode& inode) {
    const PathView leaf = at_.leaf();
    const mode_t type = inode.attributes.mode & S_IFMT;
    if (type == S_IFREG) {
      const UniqueFd file = open_at(dir(), leaf, O_WRONLY | O_CREAT | O_EXCL, 0600);
      write_data(inode, file.get());
    } else if (type == S_IFLNK) {
      make_symlink_at(std::string(inode.link_target), dir(), leaf);
    } else {
      make_node_at(dir(), leaf, type | 0600, inode.device);
    }
    set_attributes(dir(), leaf, inode.attributes);
  }

  void write_data(const TreeInode& inode, int file) {
    if (inode.segments == 0) {
      copy_range(tar_, inode.data_offset, file, 0, inode.size);
      return;
    }
    uint64_t stored_at = inode.data_offset;
    for (const tar::Segment& segment : tree_.segments(inode.segments)) {
      copy_range(tar_, stored_at, file, segment.offset, segment.size);
      stored_at += segment.size;
    }
    set_size(file, inode.size);
  }

  void copy_up(const RelPath& target) {
    const std::optional<LowerEntry> below = lower_->find(target);
    if (!below) fail(Code::corrupt, "\"{}\" is not in the lower layers", target.str());
    const PathView leaf = at_.leaf();
    const struct stat& st = below->st;
    if (S_ISREG(st.st_mode)) {
      const UniqueFd from = lower_->open_data(target);
      const UniqueFd file = open_at(dir(), leaf, O_WRONLY | O_CREAT | O_EXCL, 0600);
      copy_data(from.get(), file.get());
    } else if (S_ISLNK(st.st_mode)) {
      make_symlink_at(below->link_target, dir(), leaf);
    } else {
      make_node_at(dir(), leaf, (st.st_mode & S_IFMT) | 0600, st.st_rdev);
    }
    chown_at(dir(), leaf, st.st_uid, st.st_gid);
    set_xattrs(dir(), leaf, below->xattrs);
    if (!S_ISLNK(st.st_mode)) chmod_at(dir(), leaf, st.st_mode & 07777);
    set_times_at(dir(), leaf, st.st_mtim, st.st_mtim);
  }

  void set_attributes(int dir, PathView leaf, const TreeAttributes& attributes) {
    chown_at(dir, leaf, attributes.uid, attributes.gid);
    set_xattrs(dir, leaf, tree_.xattrs(attributes.xattrs));
    if (!S_ISLNK(attributes.mode)) chmod_at(dir, leaf, attributes.mode & 07777);
    const timespec time = to_timespec(attributes.modified);
    set_times_at(dir, leaf, time, time);
  }

  void set_xattrs(int dir, PathView leaf, const std::vector<Xattr>& xattrs) const {
    for (const Xattr& xattr : xattrs)
      if (const auto name = xattr_name_to_store(xattr.name);
          name && !(options_.userxattr && name->starts_with("trusted.")))
        set_xattr_at(dir, leaf, name->c_str(), xattr.value);
  }

  const LayerTree& tree_;
  int tar_;
  const LowerView* lower_;
  int top_;
  ExpandOptions options_;
  std::vector<Level> path_;
  RelPath at_;
  std::map<InodeId, RelPath> first_names_;
  std::map<RelPath, RelPath> copied_up_;
};

}  // namespace

void expand_layer(const LayerTree& tree, int tar, const LowerView* lower, int to,
                  const ExpandOptions& options) {
  Expander expander(tree, tar, lower, to, options);
  tree.write(expander);
}

}  // namespace veneer
