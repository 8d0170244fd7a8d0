#include "store/check_tree.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/at.h"
#include "base/error.h"
#include "layer/whiteout.h"
#include "layer/xattr_policy.h"
#include "stream/stream.h"

namespace veneer {

namespace {

constexpr const char* kOpaqueXattr = "trusted.overlay.opaque";

std::vector<Xattr> layer_xattrs(std::vector<Xattr> xattrs) {
  std::erase_if(xattrs, [](const Xattr& xattr) { return !is_layer_xattr(xattr.name); });
  return xattrs;
}

class Comparer final : public TreeWriter {
 public:
  Comparer(const LayerTree& tree, int tar, const LowerView* lower, int top)
      : tree_(tree), tar_(tar), lower_(lower), top_(top) {}

  void enter(std::string_view name, const Directory& directory) override {
    if (levels_.empty()) {
      levels_.push_back({.fd = dup_fd(top_), .names = {}});
    } else {
      see(name);
      auto fd = maybe_open_dir_at(dir(), at_.leaf());
      if (!fd) different("is no directory");
      levels_.push_back({.fd = std::move(*fd), .names = {}});
    }
    const bool is_opaque = maybe_xattr_at(dir(), ".", kOpaqueXattr) == "y";
    if (is_opaque != directory.opaque) different("has not the opaque mark that it should have");
    compare_attributes(dir(), ".", directory.attributes);
  }

  void leave() override {
    if (list_dir(dir()) != levels_.back().names) different("holds other names");
    levels_.pop_back();
    if (!at_.empty()) at_.pop();
  }

  void add(std::string_view name, InodeId id, const TreeInode& inode) override {
    see(name);
    const struct stat st = look();
    const auto [first, is_new] = inodes_.try_emplace(id, st.st_ino);
    if (first->second != st.st_ino) different("is not the hard link that it should be");
    if (is_new) compare_inode(inode, st);
    at_.pop();
  }

  void add_whiteout(std::string_view name) override {
    see(name);
    if (!is_whiteout_device(look())) different("is no whiteout");
    at_.pop();
  }

  void add_lower_link(std::string_view name, const RelPath& target) override {
    see(name);
    const struct stat st = look();
    const auto below = lower_ != nullptr ? lower_->find(target) : std::nullopt;
    if (!below) different("is a link to what is not in the lower layers");
    if (st.st_mode != below->st.st_mode || st.st_uid != below->st.st_uid ||
        st.st_gid != below->st.st_gid || st.st_size != below->st.st_size)
      different("is not a copy of the lower file");
    if (S_ISREG(st.st_mode)) {
      const UniqueFd file = open_at(dir(), at_.leaf(), O_RDONLY);
      forget_cached(file.get());
      const auto size = static_cast<uint64_t>(st.st_size);
      compare_data(lower_->open_data(target).get(), 0, {file.get(), 0, size});
    }
    at_.pop();
  }

 private:
  struct Level {
    UniqueFd fd;
    std::vector<std::string> names;  // sorted, as they come
  };
  struct Range {
    int fd = -1;
    uint64_t offset = 0;
    uint64_t size = 0;
  };

  int dir() const { return levels_.back().fd.get(); }
  void see(std::string_view name) {
    levels_.back().names.emplace_back(name);
    at_.push(name);
  }
  [[noreturn]] void different(std::string_view how) const {
    fail(Code::corrupt, "\"{}\" {}", at_.str(), how);
  }
  struct stat look() const {
    const auto st = maybe_stat_at(dir(), at_.leaf());
    if (!st) different("is not there");
    return *st;
  }

  void compare_attributes(int in, PathView leaf, const TreeAttributes& wanted) const {
    const struct stat st = stat_at(in, leaf);
    if ((st.st_mode & S_IFMT) != (wanted.mode & S_IFMT)) different("is of another kind");
    if (!S_ISLNK(st.st_mode) && st.st_mode != wanted.mode) different("has another mode");
    if (st.st_uid != wanted.uid || st.st_gid != wanted.gid) different("has another owner");
    if (st.st_mtim.tv_sec != wanted.modified.seconds) different("has another time");
    std::vector<Xattr> xattrs;
    for (const Xattr& xattr : tree_.xattrs(wanted.xattrs))
      if (auto name = xattr_name_to_store(xattr.name))
        xattrs.push_back({.name = std::move(*name), .value = xattr.value});
    std::ranges::sort(xattrs);
    if (layer_xattrs(read_xattrs_at(in, leaf)) != xattrs) different("has other xattrs");
  }

  void compare_inode(const TreeInode& inode, const struct stat& st) const {
    compare_attributes(dir(), at_.leaf(), inode.attributes);
    if (S_ISLNK(st.st_mode) && read_link_at(dir(), at_.leaf()) != inode.link_target)
      different("leads elsewhere");
    if ((S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) && st.st_rdev != inode.device)
      different("is another device");
    if (!S_ISREG(st.st_mode)) return;
    if (static_cast<uint64_t>(st.st_size) != inode.size) different("has another size");
    const UniqueFd file = open_at(dir(), at_.leaf(), O_RDONLY);
    forget_cached(file.get());
    if (inode.segments == 0) {
      compare_data(tar_, inode.data_offset, {file.get(), 0, inode.size});
    } else {
      compare_segments(inode, file.get());
    }
  }

  void compare_segments(const TreeInode& inode, int file) const {
    uint64_t stored_at = inode.data_offset;
    uint64_t end = 0;
    for (const tar::Segment& segment : tree_.segments(inode.segments)) {
      expect_zeros({file, end, segment.offset - end});
      compare_data(tar_, stored_at, {file, segment.offset, segment.size});
      stored_at += segment.size;
      end = segment.offset + segment.size;
    }
    expect_zeros({file, end, inode.size - end});
  }

  // As many bytes of a piece as both have room for.
  Room read_piece(int fd, uint64_t offset, uint64_t left, std::vector<std::byte>& room) const {
    room.resize(kChunkBytes);
    const Room wanted = Room(room).first(std::min<uint64_t>(left, room.size()));
    size_t filled = 0;
    while (filled < wanted.size()) {
      const size_t size = read_some_at(fd, wanted.subspan(filled), offset + filled);
      if (size == 0) different("ends too early");
      filled += size;
    }
    return wanted;
  }

  void compare_data(int wanted, uint64_t offset, Range range) const {
    for (uint64_t done = 0; done < range.size;) {
      const Room one = read_piece(wanted, offset + done, range.size - done, wanted_room_);
      const Room other = read_piece(range.fd, range.offset + done, range.size - done, found_room_);
      if (!std::ranges::equal(one, other)) different("has other content");
      done += one.size();
    }
  }

  void expect_zeros(Range range) const {
    for (uint64_t done = 0; done < range.size;) {
      const Room found = read_piece(range.fd, range.offset + done, range.size - done, found_room_);
      if (!std::ranges::all_of(found, [](std::byte byte) { return byte == std::byte{0}; }))
        different("has other content");
      done += found.size();
    }
  }

  const LayerTree& tree_;
  int tar_;
  const LowerView* lower_;
  int top_;
  std::vector<Level> levels_;
  std::map<InodeId, ino_t> inodes_;
  RelPath at_;
  mutable std::vector<std::byte> wanted_room_;
  mutable std::vector<std::byte> found_room_;
};

}  // namespace

void compare_tree(const LayerTree& tree, int tar, const LowerView* lower, int directory) {
  Comparer comparer(tree, tar, lower, directory);
  tree.write(comparer);
}

}  // namespace veneer
