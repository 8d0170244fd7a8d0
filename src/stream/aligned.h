// Memory for direct reads and writes (O_DIRECT, open(2)).
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace veneer {

// What O_DIRECT asks of addresses, offsets and sizes: the logical block of the disk at most, of
// which none is larger.
inline constexpr size_t kDirectAlignment = 4096;

struct FreeAligned {
  void operator()(std::byte* memory) const {
    ::operator delete[](memory, std::align_val_t(kDirectAlignment));
  }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeAligned>;

// Not initialized; begins at a multiple of kDirectAlignment.
inline AlignedBytes make_aligned(size_t size) {
  return AlignedBytes(new (std::align_val_t(kDirectAlignment)) std::byte[size]);
}

}  // namespace veneer
