#include "erofs/image_writer.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/digest.h"
#include "base/error.h"
#include "base/limits.h"

namespace veneer::erofs {
namespace {

constexpr std::array<std::byte, kBlockBytes> kZeros{};
constexpr std::string_view kVolumeName = "veneer";

// CRC-32C as EROFS has it: reflected, from all ones, without the final inversion.
uint32_t crc32c(Bytes bytes) {
  uint32_t crc = 0xffffffff;
  for (const std::byte byte : bytes) {
    crc ^= std::to_integer<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78U : 0U);
  }
  return crc;
}

uint8_t dirent_type(uint32_t type) {
  switch (type) {
    case S_IFREG:
      return 1;
    case S_IFDIR:
      return 2;
    case S_IFCHR:
      return 3;
    case S_IFBLK:
      return 4;
    case S_IFIFO:
      return 5;
    case S_IFSOCK:
      return 6;
    default:
      return 7;
  }
}

// The first bytes of a name as a number that sorts as they do: most comparisons end there.
uint64_t head_of(std::string_view name) {
  uint64_t head = 0;
  std::memcpy(&head, name.data(), std::min(name.size(), sizeof head));
  return std::byteswap(head);
}

// The two words that describe a device make its identity, as a UUID of version 8 (RFC 9562).
std::array<std::byte, 16> make_uuid(const Device& device) {
  const Digest digest = Sha256::of(fmt::format("{} {}", device.tag, device.size_bytes));
  std::array<std::byte, 16> uuid;
  std::ranges::copy_n(digest.bytes().begin(), uuid.size(), uuid.begin());
  uuid[6] = (uuid[6] & std::byte{0x0f}) | std::byte{0x80};
  uuid[8] = (uuid[8] & std::byte{0x3f}) | std::byte{0x80};
  return uuid;
}

}  // namespace

// --- the sink --------------------------------------------------------------------------------

void ImageSink::put(Bytes bytes) {
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() > kBufferBytes) {
    sink_(bytes);
    flushed_ += bytes.size();
    return;
  }
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

void ImageSink::pad_to(uint64_t to) {
  VENEER_CHECK(to >= offset());
  while (offset() < to) put(Bytes(kZeros).first(std::min<uint64_t>(kZeros.size(), to - offset())));
}

void ImageSink::flush() {
  if (buffer_.empty()) return;
  sink_(buffer_);
  flushed_ += buffer_.size();
  buffer_.clear();
}

// --- placing ---------------------------------------------------------------------------------

ImageWriter::ImageWriter(Image& image, const Device& device, const std::function<void(Bytes)>& sink)
    : image_(image), device_(device), out_(sink), places_(image.nodes_.size()) {
  if (device.size_bytes > limits::kIndexedBytes)
    fail(Code::resource_exhausted, "a layer of {} bytes", device.size_bytes);
  if (device.tag.size() > sizeof(DeviceSlot::tag))
    fail(Code::invalid_argument, "a device tag of {} bytes", device.tag.size());
}

uint64_t ImageWriter::write() {
  choose_epoch();
  sort_entries();
  place_all();

  emit_superblock();
  for (NodeId id = 0; id < places_.size(); ++id) emit_inode(id);
  out_.pad_to(xattr_block_ * kBlockBytes);
  image_.xattrs_.for_each_shared([this](std::string_view bytes) { out_.put(bytes); });
  out_.pad_to(data_block_ * kBlockBytes);
  for (NodeId id = 0; id < places_.size(); ++id) emit_blocks(image_.nodes_[id], places_[id]);
  VENEER_CHECK(out_.offset() == (data_block_ + data_blocks_) * kBlockBytes);
  out_.flush();
  return out_.offset();
}

// Compact inodes have the epoch's mtime. The majority vote of Boyer and Moore finds the mtime that
// most inodes have, if there is one (reproducible layers), and some inode's otherwise.
void ImageWriter::choose_epoch() {
  uint64_t votes = 0;
  for (const Node& node : image_.nodes_) {
    if (votes == 0) {
      epoch_ = node.mtime;
      epoch_nanoseconds_ = node.mtime_nanoseconds;
    }
    const bool is_same = node.mtime == epoch_ && node.mtime_nanoseconds == epoch_nanoseconds_;
    votes += is_same ? 1 : -uint64_t{1};
  }
}

void ImageWriter::sort_entries() {
  uint32_t first = 0;
  for (NodeId id = 0; id < places_.size(); ++id) {
    places_[id].first_entry = first;
    if (image_.nodes_[id].is_directory()) first += image_.nodes_[id].count;
  }
  order_.resize(image_.entries_.size());
  for (uint32_t i = 0; i < order_.size(); ++i)
    order_[places_[image_.entries_[i].directory].first_entry++] = i;
  for (NodeId id = 0; id < places_.size(); ++id) {
    const Node& node = image_.nodes_[id];
    if (!node.is_directory()) continue;
    places_[id].first_entry -= node.count;
    sort_directory(node, places_[id]);
  }
}

void ImageWriter::sort_directory(const Node& node, const Place& place) {
  const auto entries = std::span(order_).subspan(place.first_entry, node.count);
  const auto name = [this](uint32_t index) { return name_at(index); };
  if (!std::ranges::is_sorted(entries, {}, name)) {
    sort_keys_.clear();
    for (const uint32_t index : entries) sort_keys_.push_back({head_of(name(index)), index});
    std::ranges::sort(sort_keys_, [&](const SortKey& a, const SortKey& b) {
      return a.head != b.head ? a.head < b.head : name(a.index) < name(b.index);
    });
    std::ranges::transform(sort_keys_, entries.begin(), &SortKey::index);
  }
  const auto twin = std::ranges::adjacent_find(entries, {}, name);
  if (twin != entries.end()) fail(Code::invalid_argument, "{} twice in a directory", name(*twin));
}

void ImageWriter::place_all() {
  std::vector<uint32_t> xattr_uses(image_.xattrs_.sets());
  for (const Node& node : image_.nodes_)
    if (image_.is_named(node)) ++xattr_uses[node.xattrs];
  image_.xattrs_.place(xattr_uses);

  for (NodeId id = 0; id < places_.size(); ++id) place_node(id);
  xattr_block_ = blocks_of(metadata_end_);
  data_block_ = xattr_block_ + blocks_of(image_.xattrs_.shared_size());
  check_size(round_up(image_.xattrs_.shared_size(), kBlockBytes));
}

void ImageWriter::place_node(NodeId id) {
  Node& node = image_.nodes_[id];
  Place& place = places_[id];
  if (!image_.is_named(node)) return;
  ++inodes_;
  if (node.is_directory()) {
    node.size = 0;
    for (auto rest = entries_of(node, place); !rest.empty();) {
      const Fill fill = fill_block(rest);
      rest = rest.subspan(fill.entries);
      node.size += rest.empty() ? fill.bytes : kBlockBytes;
    }
  }
  place.is_extended = !is_compact(node);
  metadata_end_ = round_up(metadata_end_, kSlotBytes);
  const uint64_t fixed_size = place.inode_size() + image_.xattrs_.inline_size(node.xattrs);

  if (node.type() == S_IFREG) {
    place.nid = static_cast<uint32_t>(metadata_end_ / kSlotBytes);
    metadata_end_ += fixed_size;
    place_file(id, place);
  } else {
    // Contents beside the inode must not cross a block's end: the inode goes further on, unless
    // that would take more room than a block for the contents.
    const uint64_t room = kBlockBytes - (metadata_end_ + fixed_size) % kBlockBytes;
    const uint64_t skip = node.size > room ? round_up(room, kSlotBytes) : 0;
    const uint64_t begin = (metadata_end_ + skip + fixed_size) % kBlockBytes;
    const bool is_inline =
        node.size > 0 && begin + node.size <= kBlockBytes && skip + node.size < kBlockBytes;
    if (is_inline) metadata_end_ += skip;
    place.nid = static_cast<uint32_t>(metadata_end_ / kSlotBytes);
    metadata_end_ += fixed_size;
    if (is_inline) {
      place.layout = DataLayout::tail_inline;
      metadata_end_ += node.size;
    } else if (node.size > 0) {
      place.block = static_cast<uint32_t>(take_blocks(node.size));
    }
  }
  check_size(0);
}

void ImageWriter::place_file(NodeId id, Place& place) {
  const Node& node = image_.nodes_[id];
  if (node.size == 0) return;
  const File file = file_of(node);
  if (!file.extents.empty()) {
    const Extent& last = *std::ranges::max_element(
        file.extents, {}, [](const Extent& extent) { return extent.device_offset + extent.size; });
    if (last.device_offset + last.size > device_.size_bytes)
      fail(Code::invalid_argument, "an extent ends at {} of a device of {} bytes",
           last.device_offset + last.size, device_.size_bytes);
  }
  if (is_flat(file)) return;
  const ChunkPlan plan = plan_chunks(file);
  place.layout = DataLayout::chunks;
  place.chunk_bits = static_cast<uint8_t>(plan.bits);
  const uint64_t chunks = ((node.size - 1) >> plan.bits) + 1;
  metadata_end_ = round_up(metadata_end_, sizeof(ChunkIndex)) + chunks * sizeof(ChunkIndex);
  charge_data(id, chunks * sizeof(ChunkIndex) + (plan.copied << plan.bits));
  check_size(plan.copied << plan.bits);
  place.block = static_cast<uint32_t>(take_blocks(plan.copied << plan.bits));
  ChunkCursor cursor(file, plan.bits);
  cursor.skip_to_last();
  Chunk last;
  if (cursor.next(last) && last.kind == Chunk::Kind::copied)
    data_blocks_ -= blocks_of(uint64_t{1} << plan.bits) - blocks_of(last.end - last.begin);
}

void ImageWriter::charge_data(NodeId id, uint64_t bytes) {
  data_bytes_ += bytes;
  const uint64_t limit = limits::kIndexDataBytes + device_.size_bytes;
  if (data_bytes_ > limit)
    fail(Code::resource_exhausted,
         "the data of \"{}\" takes {} bytes of the index, and with that of other files {}; {} is "
         "the "
         "limit for a layer of {}",
         image_.path_of(id), bytes, data_bytes_, limit, device_.size_bytes);
}

// A file that is one piece of the device needs no chunk index: the device's blocks have numbers
// that follow the image's, if 32 bits can hold them all.
bool ImageWriter::is_flat(const File& file) const {
  const uint64_t most_blocks = blocks_of(limits::kIndexBytes) + blocks_of(device_.size_bytes);
  if (most_blocks > kNoBlock || file.extents.size() != 1) return false;
  Chunk whole;
  return ChunkCursor(file, 63).next(whole) && whole.kind == Chunk::Kind::device;
}

uint64_t ImageWriter::take_blocks(uint64_t bytes) {
  const uint64_t first = data_blocks_;
  data_blocks_ += blocks_of(bytes);
  return first;
}

void ImageWriter::check_size(uint64_t more_bytes) const {
  const uint64_t size =
      round_up(metadata_end_, kBlockBytes) + data_blocks_ * kBlockBytes + more_bytes;
  if (size > limits::kIndexBytes) fail(Code::resource_exhausted, "an index of {} bytes", size);
}

bool ImageWriter::is_compact(const Node& node) const {
  return node.mtime == epoch_ && node.mtime_nanoseconds == epoch_nanoseconds_ &&
         node.uid <= 0xffff && node.gid <= 0xffff && node.nlink <= 0xffff &&
         node.size <= 0xffffffff;
}

File ImageWriter::file_of(const Node& node) const {
  return {.size = node.size,
          .extents = std::span(image_.extents_).subspan(node.data, node.count),
          .device_size = device_.size_bytes};
}

std::span<const uint32_t> ImageWriter::entries_of(const Node& node, const Place& place) const {
  return std::span(order_).subspan(place.first_entry, node.count);
}

ImageWriter::Fill ImageWriter::fill_block(std::span<const uint32_t> entries) const {
  Fill fill;
  for (const uint32_t index : entries) {
    const size_t bytes = fill.bytes + sizeof(Dirent) + image_.entries_[index].name_size;
    if (bytes > kBlockBytes) break;
    fill.bytes = bytes;
    ++fill.entries;
  }
  return fill;
}

// --- emitting --------------------------------------------------------------------------------

void ImageWriter::emit_superblock() {
  Superblock super;
  super.root_nid = static_cast<uint16_t>(places_[kRoot].nid);
  super.inodes = inodes_;
  super.epoch = epoch_;
  super.epoch_nanoseconds = epoch_nanoseconds_;
  super.blocks = unified_start();
  super.xattr_block = static_cast<uint32_t>(xattr_block_);
  super.uuid = make_uuid(device_);
  std::ranges::copy(kVolumeName, super.volume_name.begin());
  DeviceSlot slot;
  std::ranges::copy(device_.tag, slot.tag.begin());
  slot.blocks = static_cast<uint32_t>(blocks_of(device_.size_bytes));
  slot.unified_start = super.blocks;

  std::array<std::byte, kMetadataAt - kSuperblockAt> block{};
  std::memcpy(&block[kDeviceSlotAt - kSuperblockAt], &slot, sizeof slot);
  std::memcpy(block.data(), &super, sizeof super);
  super.checksum = crc32c(block);
  std::memcpy(block.data(), &super, sizeof super);
  out_.pad_to(kSuperblockAt);
  out_.put(Bytes(block));
}

// The field that says where the contents are.
uint32_t ImageWriter::data_field(const Node& node, const Place& place) const {
  switch (node.type()) {
    case S_IFCHR:
    case S_IFBLK:
      return node.data;
    case S_IFIFO:
    case S_IFSOCK:
      return 0;
    default:
      break;
  }
  if (place.layout == DataLayout::chunks)
    return kChunkIndexes | (uint32_t{place.chunk_bits} - kBlockBits);
  if (place.layout == DataLayout::tail_inline || node.size == 0) return kNoBlock;
  if (node.type() == S_IFREG)
    return unified_start() +
           static_cast<uint32_t>(file_of(node).extents[0].device_offset >> kBlockBits);
  return static_cast<uint32_t>(data_block_ + place.block);
}

void ImageWriter::emit_inode(NodeId id) {
  const Node& node = image_.nodes_[id];
  const Place& place = places_[id];
  if (!image_.is_named(node)) return;
  out_.pad_to(uint64_t{place.nid} * kSlotBytes);

  const uint32_t xattr_size = image_.xattrs_.inline_size(node.xattrs);
  const auto format = inode_format(place.layout, place.is_extended);
  const auto xattr_count =
      static_cast<uint16_t>(xattr_size == 0 ? 0 : 1 + (xattr_size - sizeof(XattrHeader)) / 4);
  if (place.is_extended) {
    out_.put_struct(ExtendedInode{.format = format,
                                  .xattr_count = xattr_count,
                                  .mode = node.mode,
                                  .size = node.size,
                                  .data = data_field(node, place),
                                  .ino = id + 1,
                                  .uid = node.uid,
                                  .gid = node.gid,
                                  .mtime = node.mtime,
                                  .mtime_nanoseconds = node.mtime_nanoseconds,
                                  .nlink = node.nlink});
  } else {
    out_.put_struct(CompactInode{.format = format,
                                 .xattr_count = xattr_count,
                                 .mode = node.mode,
                                 .nlink = static_cast<uint16_t>(node.nlink),
                                 .size = static_cast<uint32_t>(node.size),
                                 .data = data_field(node, place),
                                 .ino = id + 1,
                                 .uid = static_cast<uint16_t>(node.uid),
                                 .gid = static_cast<uint16_t>(node.gid)});
  }
  scratch_.clear();
  image_.xattrs_.append_inline(node.xattrs, scratch_);
  out_.put(scratch_);
  if (place.layout == DataLayout::chunks) emit_chunk_indexes(node, place);
  if (place.layout == DataLayout::tail_inline) emit_contents(node, place);
}

void ImageWriter::emit_chunk_indexes(const Node& node, const Place& place) {
  out_.pad_to(round_up(out_.offset(), sizeof(ChunkIndex)));
  uint64_t copied_block = data_block_ + place.block;
  ChunkCursor cursor(file_of(node), place.chunk_bits);
  for (Chunk chunk; cursor.next(chunk);) {
    ChunkIndex index;
    if (chunk.kind == Chunk::Kind::device) {
      index.device = 1;
      index.start_block = static_cast<uint32_t>(chunk.device_offset >> kBlockBits);
    } else if (chunk.kind == Chunk::Kind::copied) {
      index.start_block = static_cast<uint32_t>(copied_block);
      copied_block += blocks_of(chunk.end - chunk.begin);
    }
    out_.put_struct(index);
  }
}

// What a node has outside the metadata area.
void ImageWriter::emit_blocks(const Node& node, const Place& place) {
  if (!image_.is_named(node) || node.size == 0) return;
  if (place.layout == DataLayout::plain && node.type() != S_IFREG) {
    emit_contents(node, place);
    out_.pad_to(round_up(out_.offset(), kBlockBytes));
  } else if (place.layout == DataLayout::chunks) {
    const File file = file_of(node);
    ChunkCursor cursor(file, place.chunk_bits);
    for (Chunk chunk; cursor.next(chunk);)
      if (chunk.kind == Chunk::Kind::copied) emit_copied(file, chunk.begin, chunk.end);
  }
}

void ImageWriter::emit_contents(const Node& node, const Place& place) {
  if (node.is_directory())
    emit_directory(node, place);
  else
    out_.put(image_.targets_[node.data]);
}

void ImageWriter::emit_directory(const Node& node, const Place& place) {
  for (auto rest = entries_of(node, place); !rest.empty();) {
    const Fill fill = fill_block(rest);
    const uint64_t end = out_.offset() + kBlockBytes;
    emit_directory_block(rest.first(fill.entries));
    rest = rest.subspan(fill.entries);
    if (!rest.empty()) out_.pad_to(end);
  }
}

void ImageWriter::emit_directory_block(std::span<const uint32_t> entries) {
  size_t name_at = entries.size() * sizeof(Dirent);
  for (const uint32_t index : entries) {
    const Entry& entry = image_.entries_[index];
    out_.put_struct(Dirent{.nid = places_[entry.child].nid,
                           .name_at = static_cast<uint16_t>(name_at),
                           .type = dirent_type(image_.nodes_[entry.child].type())});
    name_at += entry.name_size;
  }
  for (const uint32_t index : entries) out_.put(image_.entries_[index].name());
}

// The bytes of a file from `begin` to `end`, with zeros where there is no data, and up to a whole
// block.
void ImageWriter::emit_copied(const File& file, uint64_t begin, uint64_t end) {
  const uint64_t base = out_.offset() - begin;
  std::array<std::byte, 16 << 10> buffer;
  auto extent = std::ranges::upper_bound(file.extents, begin, {}, &Extent::file_end);
  for (; extent != file.extents.end() && extent->file_offset < end; ++extent) {
    uint64_t at = std::max(begin, extent->file_offset);
    const uint64_t stop = std::min(end, extent->file_end());
    out_.pad_to(base + at);
    while (at < stop) {
      const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), stop - at));
      device_.read(extent->device_offset + (at - extent->file_offset), part);
      out_.put(part);
      at += part.size();
    }
  }
  out_.pad_to(round_up(base + end, kBlockBytes));
}

}  // namespace veneer::erofs
