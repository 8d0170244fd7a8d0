// How an Image becomes bytes: a pass that places everything, and one that emits it.
//
// The image is: superblock and device slot; metadata (each inode with its attributes and then its
// chunk indexes or its short contents); shared attributes; blocks of what is longer.
#pragma once

#include "erofs/format.h"
#include "erofs/writer.h"

namespace veneer::erofs {

// Gathers small pieces for the sink.
class ImageSink {
 public:
  explicit ImageSink(const std::function<void(Bytes)>& sink) : sink_(sink) {
    buffer_.reserve(kBufferBytes);
  }

  void put(Bytes bytes);
  void put(std::string_view text) { put(std::as_bytes(std::span(text))); }
  template <typename T>
  void put_struct(const T& value) {
    put(std::as_bytes(std::span(&value, 1)));
  }
  // Zeros up to that offset of the image.
  void pad_to(uint64_t offset);
  uint64_t offset() const { return flushed_ + buffer_.size(); }
  void flush();

 private:
  static constexpr size_t kBufferBytes = 256 << 10;
  const std::function<void(Bytes)>& sink_;
  std::vector<std::byte> buffer_;
  uint64_t flushed_ = 0;
};

class ImageWriter {
 public:
  ImageWriter(Image& image, const Device& device, const std::function<void(Bytes)>& sink);
  uint64_t write();

 private:
  using Node = Image::Node;
  using Entry = Image::Entry;

  struct Place {
    uint32_t nid = 0;
    uint32_t block = 0;        // of the contents outside the metadata, counted from data_block_
    uint32_t first_entry = 0;  // of a directory, in order_
    DataLayout layout = DataLayout::plain;
    uint8_t chunk_bits = 0;
    bool is_extended = false;

    uint64_t inode_size() const {
      return is_extended ? sizeof(ExtendedInode) : sizeof(CompactInode);
    }
  };

  struct SortKey {
    uint64_t head;
    uint32_t index;
  };

  void choose_epoch();
  void sort_entries();
  void sort_directory(const Node& node, const Place& place);
  void place_all();
  void place_node(NodeId id);
  void place_contents(const Node& node, Place& place);
  void place_file(NodeId id, Place& place);
  void charge_data(NodeId id, uint64_t bytes);
  uint64_t take_blocks(uint64_t bytes);
  void check_size(uint64_t more_bytes) const;

  void emit_superblock();
  void emit_inode(NodeId id);
  void emit_chunk_indexes(const Node& node, const Place& place);
  void emit_blocks(const Node& node, const Place& place);
  void emit_contents(const Node& node, const Place& place);
  void emit_directory(const Node& node, const Place& place);
  void emit_directory_block(std::span<const uint32_t> entries);
  void emit_copied(const File& file, uint64_t begin, uint64_t end);

  bool is_compact(const Node& node) const;
  bool is_flat(const File& file) const;
  // The number of the device's first block.
  uint32_t unified_start() const { return static_cast<uint32_t>(data_block_ + data_blocks_); }
  uint32_t data_field(const Node& node, const Place& place) const;
  File file_of(const Node& node) const;
  std::span<const uint32_t> entries_of(const Node& node, const Place& place) const;
  std::string_view name_at(uint32_t index) const { return image_.entries_[index].name(); }
  // How many of the entries fit one block, and the bytes they take there.
  struct Fill {
    size_t entries = 0;
    size_t bytes = 0;
  };
  Fill fill_block(std::span<const uint32_t> entries) const;

  Image& image_;
  const Device& device_;
  ImageSink out_;
  std::vector<Place> places_;    // by node
  std::vector<uint32_t> order_;  // indexes of entries, by directory and name
  std::vector<SortKey> sort_keys_;
  std::string scratch_;
  uint64_t inodes_ = 0;
  int64_t epoch_ = 0;
  uint32_t epoch_nanoseconds_ = 0;
  uint64_t metadata_end_ = kMetadataAt;
  uint64_t xattr_block_ = 0;
  uint64_t data_block_ = 0;
  uint64_t data_blocks_ = 0;
  uint64_t data_bytes_ = 0;  // what counts for limits::kIndexDataBytes
};

}  // namespace veneer::erofs
