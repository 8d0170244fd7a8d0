// For fuzz targets that read tars: most mutations would end at a wrong checksum, so those of what
// looks like a header are set right.
#include <fmt/core.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <string>

// NOLINTBEGIN(readability-identifier-naming): libFuzzer's names.
// Absent when the corpus is replayed.
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size)
    __attribute__((weak));

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 16 == 0) return size;
  for (size_t at = 0; at + 512 <= size; at += 512) {
    const std::span<uint8_t> block(data + at, 512);
    if (std::memcmp(&block[257], "ustar", 5) != 0) continue;
    std::ranges::fill(block.subspan(148, 8), ' ');
    const uint32_t sum = std::accumulate(block.begin(), block.end(), uint32_t{0});
    const std::string text = fmt::format("{:06o}", sum);
    std::ranges::copy(text, block.begin() + 148);
    block[154] = 0;
  }
  return size;
}
// NOLINTEND(readability-identifier-naming)
