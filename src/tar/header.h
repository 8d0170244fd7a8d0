// One 512-byte header block: where its fields are, for the reader and the writer.
//
// Sources: POSIX.1-2017 pax "ustar Interchange Format"; GNU tar manual "Basic Tar Format" (the old
// GNU header has access and change times and a sparse map where ustar has the prefix).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "stream/stream.h"

namespace veneer::tar {

inline constexpr size_t kBlockBytes = 512;

inline constexpr uint64_t round_up_to_block(uint64_t size) {
  return (size + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
}

struct Field {
  size_t offset;
  size_t size;
};

inline constexpr Field kName{0, 100};
inline constexpr Field kMode{100, 8};
inline constexpr Field kUid{108, 8};
inline constexpr Field kGid{116, 8};
inline constexpr Field kSize{124, 12};
inline constexpr Field kModified{136, 12};
inline constexpr Field kChecksum{148, 8};
inline constexpr Field kType{156, 1};
inline constexpr Field kLinkTarget{157, 100};
inline constexpr Field kMagic{257, 8};  // and version
inline constexpr Field kDeviceMajor{329, 8};
inline constexpr Field kDeviceMinor{337, 8};
inline constexpr Field kPrefix{345, 155};

// Old GNU sparse headers, and the blocks that follow when "is extended" is not 0.
inline constexpr Field kSparseMap{386, 96};
inline constexpr Field kSparseIsExtended{482, 1};
inline constexpr Field kSparseRealSize{483, 12};
inline constexpr Field kExtensionMap{0, 504};
inline constexpr Field kExtensionIsExtended{504, 1};

inline constexpr std::string_view kUstarMagic{
    "ustar\0"
    "00",
    8};
inline constexpr std::string_view kGnuMagic{"ustar  \0", 8};

class Block {
 public:
  Room room() { return std::as_writable_bytes(std::span(bytes_)); }
  Bytes bytes() const { return std::as_bytes(std::span(bytes_)); }
  std::string_view raw(Field field) const { return {&bytes_[field.offset], field.size}; }
  // Up to the first NUL.
  std::string_view text(Field field) const;
  char character(Field field) const { return bytes_[field.offset]; }

  // False for a block of zeros. Throws corrupt if the checksum is neither the sum of the bytes nor,
  // as some old archivers have it, of the bytes as signed numbers.
  bool verify() const;

  void clear() { bytes_.fill('\0'); }
  // The text, which must fit, is not terminated if it fills the field.
  void set_text(Field field, std::string_view text);
  // Octal, with leading zeros and a final NUL. The value must fit.
  void set_octal(Field field, uint64_t value);
  void set_checksum();

 private:
  uint32_t sum_of_bytes() const;
  uint32_t sum_without_checksum() const;

  std::array<char, kBlockBytes> bytes_{};
};

// The largest number that set_octal() can put there.
inline constexpr uint64_t max_octal(Field field) {
  return (uint64_t{1} << (3 * (field.size - 1))) - 1;
}

}  // namespace veneer::tar
