#include "tar/header.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "tar/number.h"

namespace veneer::tar {

std::string_view Block::text(Field field) const {
  const std::string_view all = raw(field);
  return all.substr(0, all.find('\0'));
}

// Eight bytes at a time, into four lanes of 16 bits, where 64 times two bytes fit.
uint32_t Block::sum_of_bytes() const {
  constexpr uint64_t kEvenBytes = 0x00ff00ff00ff00ff;
  uint64_t lanes = 0;
  for (size_t at = 0; at < kBlockBytes; at += sizeof(uint64_t)) {
    uint64_t word = 0;
    std::memcpy(&word, &bytes_[at], sizeof word);
    lanes += (word & kEvenBytes) + ((word >> 8) & kEvenBytes);
  }
  uint32_t sum = 0;
  for (; lanes != 0; lanes >>= 16) sum += lanes & 0xffff;
  return sum;
}

// As it counts itself: eight spaces.
uint32_t Block::sum_without_checksum() const {
  uint32_t sum = sum_of_bytes() + kChecksum.size * ' ';
  for (const char c : raw(kChecksum)) sum -= static_cast<uint8_t>(c);
  return sum;
}

bool Block::verify() const {
  if (sum_of_bytes() == 0) return false;
  const uint32_t sum = sum_without_checksum();
  const int64_t stored = parse_field(raw(kChecksum), "checksum");
  if (stored == sum) return true;
  const auto is_high = [](char c) { return static_cast<uint8_t>(c) >= 0x80; };
  const std::string_view checksum = raw(kChecksum);
  const int64_t high =
      std::ranges::count_if(bytes_, is_high) - std::ranges::count_if(checksum, is_high);
  if (stored != int64_t{sum} - 256 * high) fail(Code::corrupt, "the header's checksum is wrong");
  return true;
}

void Block::set_text(Field field, std::string_view text) {
  VENEER_CHECK(text.size() <= field.size);
  std::ranges::copy(text, &bytes_[field.offset]);
}

void Block::set_octal(Field field, uint64_t value) {
  VENEER_CHECK(value <= max_octal(field));
  for (size_t at = field.offset + field.size - 1; at-- > field.offset; value >>= 3)
    bytes_[at] = static_cast<char>('0' + (value & 7));
}

void Block::set_checksum() {
  set_octal({kChecksum.offset, kChecksum.size - 1}, sum_without_checksum());
  bytes_[kChecksum.offset + kChecksum.size - 1] = ' ';
}

}  // namespace veneer::tar
