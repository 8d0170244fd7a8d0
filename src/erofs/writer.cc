#include "erofs/writer.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/limits.h"
#include "erofs/image_writer.h"

namespace veneer::erofs {
namespace {

constexpr std::string_view kSelf = ".";
constexpr std::string_view kParent = "..";
constexpr NodeId kNoParent = std::numeric_limits<NodeId>::max();

// The kernel's 32-bit form of a device number (include/linux/kdev_t.h, new_encode_dev).
uint32_t encode_device(const Inode& inode) {
  if (inode.device_major >= 1U << 12 || inode.device_minor >= 1U << 20)
    fail(Code::invalid_argument, "device number {}:{}", inode.device_major, inode.device_minor);
  return (inode.device_minor & 0xff) | (inode.device_major << 8) |
         ((inode.device_minor & ~0xffU) << 12);
}

void check_name(std::string_view name) {
  if (name.size() > limits::kNameBytes)
    fail(Code::resource_exhausted, "a name of {} bytes", name.size());
  const bool is_bad = name.empty() || name == kSelf || name == kParent ||
                      name.find('/') != name.npos || name.find('\0') != name.npos;
  if (is_bad) fail(Code::invalid_argument, "not a name: \"{}\"", name);
}

void check_target(std::string_view target) {
  if (target.size() > limits::kLinkTargetBytes)
    fail(Code::resource_exhausted, "a symbolic link's target of {} bytes", target.size());
  if (target.empty() || target.find('\0') != target.npos)
    fail(Code::invalid_argument, "not a symbolic link's target: \"{}\"", target);
}

}  // namespace

NodeId Image::add(const Inode& inode) {
  const auto id = static_cast<NodeId>(nodes_.size());
  if (inode.mode > 0xffff) fail(Code::invalid_argument, "mode {:o}", inode.mode);
  if (inode.mtime.tv_nsec < 0 || inode.mtime.tv_nsec >= 1'000'000'000)
    fail(Code::invalid_argument, "{} nanoseconds", inode.mtime.tv_nsec);
  VENEER_CHECK(inode.xattrs < xattrs_.sets());
  Node node{.size = 0,
            .mtime = inode.mtime.tv_sec,
            .mtime_nanoseconds = static_cast<uint32_t>(inode.mtime.tv_nsec),
            .uid = inode.uid,
            .gid = inode.gid,
            .xattrs = inode.xattrs,
            .nlink = 0,
            .data = 0,
            .count = 0,
            .mode = static_cast<uint16_t>(inode.mode)};
  VENEER_CHECK(id != kRoot || node.is_directory());
  set_type_data(node, inode);
  nodes_.push_back(node);
  if (node.is_directory()) push_entry(id, kSelf, id);
  if (id == kRoot) {
    nodes_[kRoot].data = kRoot;
    push_entry(kRoot, kParent, kRoot);
  }
  return id;
}

void Image::set_type_data(Node& node, const Inode& inode) {
  switch (node.type()) {
    case S_IFREG:
      add_extents(node, inode);
      break;
    case S_IFDIR:
      node.nlink = 2;
      node.data = kNoParent;
      break;
    case S_IFLNK:
      check_target(inode.target);
      node.size = inode.target.size();
      node.data = static_cast<uint32_t>(targets_.size());
      targets_.push_back(inode.target);
      break;
    case S_IFCHR:
    case S_IFBLK:
      node.data = encode_device(inode);
      break;
    case S_IFIFO:
    case S_IFSOCK:
      break;
    default:
      fail(Code::invalid_argument, "mode {:o} is of no type", inode.mode);
  }
}

void Image::add_extents(Node& node, const Inode& inode) {
  if (inode.size > limits::kFileBytes)
    fail(Code::resource_exhausted, "a file of {} bytes", inode.size);
  if (inode.extents.size() > limits::kSparseSegments)
    fail(Code::resource_exhausted, "a file of {} extents", inode.extents.size());
  node.size = inode.size;
  node.data = static_cast<uint32_t>(extents_.size());
  uint64_t at = 0;
  for (const Extent& extent : inode.extents) {
    const bool is_bad = extent.file_offset < at || extent.file_offset > inode.size ||
                        extent.size > inode.size - extent.file_offset ||
                        extent.device_offset > limits::kIndexedBytes;
    if (is_bad)
      fail(Code::invalid_argument, "extent of {} bytes at {} in a file of {}", extent.size,
           extent.file_offset, inode.size);
    if (extent.size == 0) continue;
    at = extent.file_end();
    Extent* const last = node.count > 0 ? &extents_.back() : nullptr;
    if (last && last->file_end() == extent.file_offset &&
        last->device_offset + last->size == extent.device_offset) {
      last->size += extent.size;
    } else {
      extents_.push_back(extent);
      ++node.count;
    }
  }
}

void Image::push_entry(NodeId directory, std::string_view name, NodeId child) {
  entries_.push_back({.name_data = name.data(),
                      .directory = directory,
                      .child = child,
                      .name_size = static_cast<uint8_t>(name.size())});
  ++nodes_[directory].count;
}

void Image::add_entry(NodeId directory, std::string_view name, NodeId child) {
  VENEER_CHECK(directory < nodes_.size() && child < nodes_.size());
  VENEER_CHECK(nodes_[directory].is_directory() && child != kRoot);
  check_name(name);
  Node& node = nodes_[child];
  if (node.is_directory()) {
    if (node.data != kNoParent)
      fail(Code::invalid_argument, "{}: a second name of a directory", name);
    node.data = directory;
    ++nodes_[directory].nlink;
    push_entry(child, kParent, directory);
  } else {
    ++node.nlink;
  }
  push_entry(directory, name, child);
}

bool Image::is_named(const Node& node) const {
  return node.is_directory() ? node.data != kNoParent : node.nlink > 0;
}

// By the first of its names; for messages.
std::string Image::path_of(NodeId id) const {
  std::string path;
  while (id != kRoot) {
    const auto entry = std::ranges::find_if(entries_, [&](const Entry& candidate) {
      return candidate.child == id && candidate.name() != kSelf && candidate.name() != kParent;
    });
    if (entry == entries_.end()) break;
    path.insert(0, path.empty() ? entry->name() : fmt::format("{}/", entry->name()));
    id = entry->directory;
  }
  return path;
}

uint64_t Image::write(const Device& device, const std::function<void(Bytes)>& sink) {
  VENEER_CHECK(!nodes_.empty());
  return ImageWriter(*this, device, sink).write();
}

}  // namespace veneer::erofs
