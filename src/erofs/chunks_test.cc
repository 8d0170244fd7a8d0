#include "erofs/chunks.h"

#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <random>
#include <vector>

#include "erofs/format.h"

namespace veneer::erofs {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;

// One letter a chunk: "h"ole, "d"evice, "c"opied.
std::string kinds(const File& file, uint32_t bits) {
  std::string text;
  ChunkCursor cursor(file, bits);
  for (Chunk chunk; cursor.next(chunk);) text += "hdc"[static_cast<int>(chunk.kind)];
  return text;
}

TEST(Chunks, OnePieceIsOneChunkHoweverLarge) {
  for (const uint64_t size : {uint64_t{1}, uint64_t{512}, uint64_t{513}, 5 * kGiB, 1024 * kGiB}) {
    const std::vector<Extent> extents{{.file_offset = 0, .device_offset = 512, .size = size}};
    const File file{.size = size, .extents = extents, .device_size = 2048 * kGiB};
    const ChunkPlan plan = plan_chunks(file);
    EXPECT_EQ(kinds(file, plan.bits), "d") << size;
    EXPECT_EQ(plan.copied, 0U);
  }
}

TEST(Chunks, ChunksAreAtMostATebibyte) {
  const std::vector<Extent> extents{{.device_offset = 512, .size = 1024 * kGiB + 1}};
  const File file{.size = 1024 * kGiB + 1, .extents = extents, .device_size = 2048 * kGiB};
  EXPECT_EQ(plan_chunks(file).bits, kMaxChunkBits);
  EXPECT_EQ(kinds(file, kMaxChunkBits), "dd");
}

TEST(Chunks, HolesAndWholeBlocksAreMappedAndTheRestIsCopied) {
  const std::vector<Extent> extents{
      {.file_offset = 512, .device_offset = 1024, .size = 512},        // whole
      {.file_offset = 1536, .device_offset = 4097, .size = 512},       // starts within a block
      {.file_offset = 2048 + 100, .device_offset = 612, .size = 412},  // half a chunk
      {.file_offset = 3072, .device_offset = 5120, .size = 100},       // the end of the file
  };
  const File file{.size = 3172, .extents = extents, .device_size = 1 << 20};
  EXPECT_EQ(kinds(file, 9), "hdhcchd");
  EXPECT_EQ(kinds(file, 10), "cccd");
}

TEST(Chunks, ABlockCutByTheEndOfTheDeviceIsCopied) {
  const std::vector<Extent> extents{{.device_offset = 512, .size = 700}};
  File file{.size = 700, .extents = extents, .device_size = 512 + 1024};
  EXPECT_EQ(kinds(file, 9), "dd");
  file.device_size -= 1;
  EXPECT_EQ(kinds(file, 9), "dc");
  EXPECT_EQ(kinds(file, 10), "c");
}

TEST(Chunks, OneOddBlockOfALargeFileCostsLittle) {
  const uint64_t size = 5 * kGiB + 1;
  const std::vector<Extent> extents{{.device_offset = 512, .size = size}};
  const File file{.size = size, .extents = extents, .device_size = 512 + size};
  const ChunkPlan plan = plan_chunks(file);
  EXPECT_EQ(plan.copied, 1U);
  EXPECT_LT((size >> plan.bits) * 8 + (uint64_t{1} << plan.bits), kMiB);
}

TEST(Chunks, ThePlanIsTheCheapestOfAll) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<Extent> extents;
    uint64_t at = 0;
    uint64_t device = 0;
    const uint64_t grain = uint64_t{1} << (random() % 13);
    for (uint64_t i = random() % 6; i > 0; --i) {
      at += random() % 8 * grain;
      device += random() % 4 * (random() % 4 == 0 ? 1 : 512);
      const uint64_t size = (1 + random() % 9) * grain;
      extents.push_back({.file_offset = at, .device_offset = device, .size = size});
      at += size;
      device += size;
    }
    const File file{.size = at + random() % 5000 + 1,
                    .extents = extents,
                    .device_size = device + random() % 2 * 512};
    uint64_t cheapest = std::numeric_limits<uint64_t>::max();
    const ChunkPlan plan = plan_chunks(file);
    for (uint32_t bits = kBlockBits; bits < 20; ++bits) {
      uint64_t chunks = 0;
      uint64_t copied = 0;
      ChunkCursor cursor(file, bits);
      for (Chunk chunk; cursor.next(chunk); ++chunks)
        copied += chunk.kind == Chunk::Kind::copied ? 1 : 0;
      cheapest = std::min(cheapest, chunks * sizeof(ChunkIndex) + (copied << bits));
      if (bits == plan.bits) {
        EXPECT_EQ(copied, plan.copied) << round;
      }
    }
    const uint64_t chunks = ((file.size - 1) >> plan.bits) + 1;
    EXPECT_EQ(chunks * sizeof(ChunkIndex) + (plan.copied << plan.bits), cheapest) << round;
  }
}

}  // namespace
}  // namespace veneer::erofs
