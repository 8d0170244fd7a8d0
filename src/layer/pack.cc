#include "layer/pack.h"

#include <sys/sysmacros.h>

#include <vector>

#include "base/error.h"
#include "erofs/writer.h"
#include "layer/xattr_policy.h"
#include "stream/checksum.h"
#include "stream/large_file.h"
#include "stream/prefetch.h"
#include "tar/reader.h"

namespace veneer {

namespace {

// Both names of each mark: in a user namespace overlayfs heeds user.overlay.* only.
constexpr const char* kOpaqueNames[] = {"trusted.overlay.opaque", "user.overlay.opaque"};
// Makes overlayfs look for whiteouts when it lists a directory that only one layer has; without it
// they show as devices (fs/overlayfs/readdir.c, ovl_dir_is_real and its users).
constexpr const char* kOriginNames[] = {"trusted.overlay.origin", "user.overlay.origin"};
constexpr size_t kChunksPerWrite = 4;

class IndexBuilder final : public TreeWriter {
 public:
  IndexBuilder(const LayerTree& tree, erofs::Image& image) : tree_(tree), image_(image) {}

  void enter(std::string_view name, const Directory& directory) override {
    std::vector<Xattr> xattrs = stored_xattrs(directory.attributes);
    if (directory.opaque)
      for (const char* opaque : kOpaqueNames) xattrs.push_back({opaque, "y"});
    if (directory.has_whiteouts)
      for (const char* origin : kOriginNames) xattrs.push_back({origin, ""});
    erofs::Inode inode = make_inode(directory.attributes);
    inode.xattrs = image_.intern_xattrs(xattrs);
    const erofs::NodeId node = image_.add(inode);
    if (!path_.empty()) image_.add_entry(path_.back(), name, node);
    path_.push_back(node);
  }

  void leave() override { path_.pop_back(); }

  void add(std::string_view name, InodeId id, const TreeInode& inode) override {
    if (id >= nodes_.size()) nodes_.resize(id + 1, kNotAdded);
    if (nodes_[id] == kNotAdded) nodes_[id] = add_inode(inode);
    image_.add_entry(path_.back(), name, nodes_[id]);
  }

  void add_whiteout(std::string_view name) override {
    erofs::Inode whiteout;
    whiteout.mode = S_IFCHR;
    image_.add_entry(path_.back(), name, image_.add(whiteout));
  }

  void add_lower_link(std::string_view, const RelPath& target) override {
    fail(Code::failed_precondition, "a hard link to \"{}\" of a lower layer cannot be packed",
         target.str());
  }

 private:
  static constexpr erofs::NodeId kNotAdded = UINT32_MAX;

  static erofs::Inode make_inode(const TreeAttributes& attributes) {
    erofs::Inode inode;
    inode.mode = attributes.mode;
    inode.uid = attributes.uid;
    inode.gid = attributes.gid;
    inode.mtime = {.tv_sec = attributes.modified.seconds,
                   .tv_nsec = static_cast<long>(attributes.modified.nanoseconds)};
    return inode;
  }

  std::vector<Xattr> stored_xattrs(const TreeAttributes& attributes) const {
    std::vector<Xattr> stored;
    for (const Xattr& xattr : tree_.xattrs(attributes.xattrs))
      stored.push_back({xattr_name_to_store(xattr.name).value(), xattr.value});
    return stored;
  }

  erofs::NodeId add_inode(const TreeInode& from) {
    erofs::Inode inode = make_inode(from.attributes);
    if (from.attributes.xattrs != 0)
      inode.xattrs = image_.intern_xattrs(stored_xattrs(from.attributes));
    inode.size = from.size;
    inode.target = from.link_target;
    inode.device_major = major(from.device);
    inode.device_minor = minor(from.device);
    extents_.clear();
    if (from.segments != 0) {
      uint64_t stored_at = from.data_offset;
      for (const tar::Segment& segment : tree_.segments(from.segments)) {
        extents_.push_back({segment.offset, stored_at, segment.size});
        stored_at += segment.size;
      }
    } else if (from.size > 0) {
      extents_.push_back({0, from.data_offset, from.size});
    }
    inode.extents = extents_;
    return image_.add(inode);
  }

  const LayerTree& tree_;
  erofs::Image& image_;
  std::vector<erofs::NodeId> path_;
  std::vector<erofs::NodeId> nodes_;  // of the tree's inodes
  std::vector<erofs::Extent> extents_;
};

void read_exactly(int fd, uint64_t offset, std::span<std::byte> buffer) {
  while (!buffer.empty()) {
    const size_t size = read_some_at(fd, buffer, offset);
    if (size == 0) fail(Code::corrupt, "the layer's tar ends at {}", offset);
    buffer = buffer.subspan(size);
    offset += size;
  }
}

}  // namespace

bool read_layer_tree(Source& from, LayerTree& tree) {
  tar::Reader reader(from);
  while (const tar::Entry* entry = reader.next()) {
    try {
      tree.add(*entry);
    } catch (Error& error) {
      error.add_context(
          fmt::format("entry \"{}\" at offset {}", entry->path, entry->header_offset));
      throw;
    }
  }
  reader.drain();
  return reader.has_end_marker();
}

LayerTarInfo store_layer_tar(Source& from, int tar, LayerTree& tree) {
  Prefetch ahead(from, {{}, {.chunks_at_once = kChunksPerWrite}});
  uint64_t checksum = 0;
  PrefetchThread writer(ahead, 1, [&](Source& source) {
    Crc64Source summed(source);
    write_large_file(summed, tar);
    checksum = summed.value();
  });
  PrefetchReader source(ahead, 0);
  HashingSource hashed(source);
  const bool has_end_marker = read_layer_tree(hashed, tree);
  writer.finish();
  return {.diff_id = hashed.digest(),
          .size_bytes = hashed.count(),
          .checksum = checksum,
          .has_end_marker = has_end_marker};
}

Digest write_index(const LayerTree& tree, int tar, const LayerTarInfo& info, int index) {
  erofs::Image image;
  IndexBuilder builder(tree, image);
  tree.write(builder);
  const std::string tag = info.diff_id.hex();
  const erofs::Device device{.size_bytes = info.size_bytes,
                             .tag = tag,
                             .read = [tar](uint64_t offset, std::span<std::byte> buffer) {
                               read_exactly(tar, offset, buffer);
                             }};
  Sha256 sha;
  image.write(device, [&](Bytes bytes) {
    sha.update(bytes);
    write_all(index, bytes);
  });
  return sha.finish();
}

std::string index_name(const std::optional<Digest>& lower_digest) {
  if (!lower_digest) return "layer.erofs";
  return fmt::format("layer.{}.erofs", lower_digest->hex().substr(0, 16));
}

}  // namespace veneer
