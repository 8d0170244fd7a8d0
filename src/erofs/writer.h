// A file tree of metadata, written as an EROFS image whose file data lies in another file.
//
// The image (the index) is mounted with `device=` naming that other file (the device: a layer's
// tar). Both must be on a file system that the kernel mounts EROFS from. The same calls in the
// same order give the same bytes.
//
//   erofs::Image image;
//   const NodeId root = image.add({.mode = S_IFDIR | 0755});          // the first is the root
//   const NodeId file = image.add({.mode = S_IFREG | 0644, .size = n, .extents = {&extent, 1}});
//   image.add_entry(root, "a", file);
//   image.add_entry(root, "b", file);                                 // a hard link
//   image.write({.size_bytes = tar_size, .tag = diff_id_hex, .read = read_tar}, sink);
//
// The number of nodes and names is the caller's to limit; each file takes about 150 bytes of
// memory.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <ctime>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/at.h"
#include "erofs/chunks.h"
#include "erofs/xattrs.h"

namespace veneer::erofs {

using NodeId = uint32_t;
inline constexpr NodeId kRoot = 0;

struct Inode {
  uint32_t mode = 0;  // with the type's bits; any of the seven types
  uint32_t uid = 0;
  uint32_t gid = 0;
  timespec mtime{};
  XattrSetId xattrs = kNoXattrs;
  // Regular files. The extents are in order and do not overlap; what they leave out reads as zero.
  uint64_t size = 0;
  std::span<const Extent> extents = {};
  // Symbolic links. Referenced, not copied.
  std::string_view target = {};
  // Devices. A whiteout is a character device 0:0.
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
};

struct Device {
  uint64_t size_bytes = 0;
  // Up to 64 bytes, kept in the image for people: neither the kernel nor this class reads it.
  std::string_view tag = {};
  // Fills the buffer from that offset of the device. Blocks of files that the device does not hold
  // as the kernel wants them (odd offsets, a short last block) are copied into the image with it;
  // it may be empty if there are none.
  std::function<void(uint64_t offset, std::span<std::byte> buffer)> read = {};
};

class Image {
 public:
  // The first node is the root, which must be a directory. Link counts are counted, not given.
  // Throws invalid_argument for what cannot be in a file system and resource_exhausted beyond
  // limits.h.
  NodeId add(const Inode& inode);

  // Names `child` in `directory`. The name's bytes are referenced and must outlive write(); names
  // come in any order. A node may be named often, a directory once, the root never. Throws
  // invalid_argument for "", ".", "..", slashes, NULs and a directory named again, and
  // resource_exhausted for a name of more than limits::kNameBytes.
  void add_entry(NodeId directory, std::string_view name, NodeId child);

  // A set for Inode::xattrs. Equal sets, in any order, have equal ids. See XattrTable::intern.
  XattrSetId intern_xattrs(std::span<const Xattr> xattrs) { return xattrs_.intern(xattrs); }

  // Gives the image to `sink` in order and returns its size, a multiple of the block size. A node
  // that no entry names is left out. Throws invalid_argument for equal names in a directory and for
  // extents past the device's end; resource_exhausted if device or image are larger than
  // limits::kIndexedBytes and limits::kIndexBytes, or if the data of files takes more of the image
  // than limits::kIndexDataBytes and the device's size, naming a file; and what `sink` and
  // Device::read throw.
  uint64_t write(const Device& device, const std::function<void(Bytes)>& sink);

 private:
  friend class ImageWriter;

  struct Node {
    uint64_t size;
    int64_t mtime;
    uint32_t mtime_nanoseconds;
    uint32_t uid;
    uint32_t gid;
    XattrSetId xattrs;
    uint32_t nlink;
    uint32_t data;   // index in extents_ or targets_, device number, or a directory's parent
    uint32_t count;  // of extents or entries
    uint16_t mode;

    uint32_t type() const { return mode & static_cast<uint32_t>(S_IFMT); }
    bool is_directory() const { return type() == S_IFDIR; }
  };

  struct Entry {
    const char* name_data;
    NodeId directory;
    NodeId child;
    uint8_t name_size;

    std::string_view name() const { return {name_data, name_size}; }
  };

  void set_type_data(Node& node, const Inode& inode);
  void add_extents(Node& node, const Inode& inode);
  void push_entry(NodeId directory, std::string_view name, NodeId child);
  bool is_named(const Node& node) const;
  std::string path_of(NodeId id) const;

  std::vector<Node> nodes_;
  std::vector<Entry> entries_;  // "." and ".." among them
  std::vector<Extent> extents_;
  std::vector<std::string_view> targets_;
  XattrTable xattrs_;
};

}  // namespace veneer::erofs
