// The on-disk format of EROFS, as far as Veneer writes it: uncompressed, 512-byte blocks, one extra
// device (Linux Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h). All integers are
// little-endian; the structures are written as they lie in memory.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace veneer::erofs {

static_assert(std::endian::native == std::endian::little);

inline constexpr uint32_t kBlockBits = 9;
inline constexpr uint32_t kBlockBytes = 1U << kBlockBits;
// An inode's number (nid) is its byte offset in the image divided by this: the metadata area starts
// at block 0, so that no inode has the number 0, which readdir(3) takes for a deleted entry.
inline constexpr uint32_t kSlotBytes = 32;
inline constexpr uint32_t kNoBlock = 0xffffffff;

inline constexpr uint32_t kSuperblockAt = 1024;
inline constexpr uint32_t kDeviceSlotAt = 1152;
// The first block that the superblock's checksum does not cover.
inline constexpr uint32_t kMetadataAt = 1536;

inline constexpr uint32_t kMagic = 0xe0f5e1e2;
inline constexpr uint32_t kCompatibleChecksum = 0x1;
inline constexpr uint32_t kCompatibleMtime = 0x2;
inline constexpr uint32_t kIncompatibleDeviceTable = 0x8;

struct Superblock {
  uint32_t magic = kMagic;
  uint32_t checksum = 0;
  uint32_t compatible = kCompatibleChecksum | kCompatibleMtime;
  uint8_t block_bits = kBlockBits;
  uint8_t extra_slots = 0;
  uint16_t root_nid = 0;
  uint64_t inodes = 0;
  int64_t epoch = 0;  // the mtime of compact inodes
  uint32_t epoch_nanoseconds = 0;
  uint32_t blocks = 0;  // of the primary device alone
  uint32_t metadata_block = 0;
  uint32_t xattr_block = 0;
  std::array<std::byte, 16> uuid{};
  std::array<char, 16> volume_name{};
  uint32_t incompatible = kIncompatibleDeviceTable;
  uint16_t compression = 0;
  uint16_t extra_devices = 1;
  uint16_t device_table_slot = kDeviceSlotAt / 128;
  uint8_t directory_block_bits = 0;
  uint8_t xattr_prefixes = 0;
  uint32_t xattr_prefix_start = 0;
  uint64_t packed_nid = 0;
  std::array<std::byte, 24> reserved{};
};
static_assert(sizeof(Superblock) == 128);

struct DeviceSlot {
  std::array<char, 64> tag{};
  uint32_t blocks = 0;
  uint32_t unified_start = 0;  // where it would lie if it were appended to the primary device
  std::array<std::byte, 56> reserved{};
};
static_assert(sizeof(DeviceSlot) == 128);

enum class DataLayout : uint8_t { plain = 0, tail_inline = 2, chunks = 4 };

constexpr uint16_t inode_format(DataLayout layout, bool extended) {
  return static_cast<uint16_t>((static_cast<unsigned>(layout) << 1) | (extended ? 1U : 0U));
}

struct CompactInode {
  uint16_t format = 0;
  uint16_t xattr_count = 0;
  uint16_t mode = 0;
  uint16_t nlink = 0;
  uint32_t size = 0;
  uint32_t mtime = 0;  // zero: not every kernel adds it to the epoch
  uint32_t data = 0;   // start block, device number or chunk format
  uint32_t ino = 0;
  uint16_t uid = 0;
  uint16_t gid = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(CompactInode) == 32);

struct ExtendedInode {
  uint16_t format = 0;
  uint16_t xattr_count = 0;
  uint16_t mode = 0;
  uint16_t reserved0 = 0;
  uint64_t size = 0;
  uint32_t data = 0;
  uint32_t ino = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime = 0;
  uint32_t mtime_nanoseconds = 0;
  uint32_t nlink = 0;
  std::array<std::byte, 16> reserved1{};
};
static_assert(sizeof(ExtendedInode) == 64);

// Chunk format: the low five bits are log2(chunk bytes / block bytes).
inline constexpr uint32_t kChunkIndexes = 0x20;
inline constexpr uint32_t kMaxChunkBits = kBlockBits + 31;

struct ChunkIndex {
  uint16_t start_block_high = 0;
  uint16_t device = 0;  // 0 is the image itself
  uint32_t start_block = kNoBlock;
};
static_assert(sizeof(ChunkIndex) == 8);

struct XattrHeader {
  uint32_t name_filter = 0;  // a set bit means "not there"; zero is true of every set
  uint8_t shared_count = 0;
  std::array<std::byte, 7> reserved{};
};
static_assert(sizeof(XattrHeader) == 12);
inline constexpr uint32_t kMaxSharedXattrs = 255;
// The count field has 16 bits: one for the header and one for each four bytes after it.
inline constexpr uint32_t kMaxXattrBytes = sizeof(XattrHeader) + 4 * (65535 - 1);
inline constexpr uint32_t kMaxXattrValue = 65535;

struct XattrEntry {
  uint8_t name_size = 0;
  uint8_t name_index = 0;
  uint16_t value_size = 0;
};
static_assert(sizeof(XattrEntry) == 4);

struct Dirent {
  uint32_t nid = 0;
  uint32_t nid_high = 0;
  uint16_t name_at = 0;
  uint8_t type = 0;
  uint8_t reserved = 0;
};
static_assert(sizeof(Dirent) == 12);

constexpr uint64_t round_up(uint64_t value, uint64_t step) {
  return (value + step - 1) / step * step;
}
constexpr uint64_t blocks_of(uint64_t bytes) {
  return round_up(bytes, kBlockBytes) >> kBlockBits;
}

}  // namespace veneer::erofs
