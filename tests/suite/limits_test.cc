// Limits that take seconds or gigabytes to reach, at N and at N + 1.
#include "base/limits.h"

#include <gtest/gtest.h>

#include <deque>
#include <string>

#include "base/error.h"
#include "erofs/format.h"
#include "erofs/writer.h"
#include "layer/tree.h"
#include "tar/reader.h"
#include "tar/test_archive.h"

namespace veneer {
namespace {

template <typename Call>
Code code_of(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "accepted";
  return Code::io;
}

// One header, again and again: 8 GB of archive for 16 million entries.
class SameEntry final : public Source {
 public:
  explicit SameEntry(uint64_t count) : left_(count) {
    for (size_t i = 0; i < kAtOnce; ++i) blocks_ += tar::test::block({});
  }
  Bytes next(Room) override {
    const uint64_t count = std::min<uint64_t>(left_, kAtOnce);
    left_ -= count;
    return tar::test::bytes_of(blocks_).first(count * blocks_.size() / kAtOnce);
  }

 private:
  static constexpr size_t kAtOnce = 512;
  std::string blocks_;
  uint64_t left_;
};

TEST(Limits, EntriesOfATar) {
  SameEntry source(limits::kLayerEntries + 1);
  tar::Reader reader(source);
  for (uint64_t i = 0; i < limits::kLayerEntries; ++i) ASSERT_NE(reader.next(), nullptr);
  EXPECT_EQ(code_of([&] { reader.next(); }), Code::resource_exhausted);
}

// Few entries may imply many directories: these are counted, too.
TEST(Limits, NamesOfALayer) {
  constexpr uint64_t kDepth = 16;
  static_assert(limits::kLayerEntries % kDepth == 0 && kDepth <= limits::kPathDepth);
  std::string below;
  for (uint64_t i = 1; i < kDepth; ++i) below += "/d";
  LayerTree tree;
  tar::Entry entry;
  for (uint64_t i = 0; i < limits::kLayerEntries / kDepth; ++i) {
    entry.path = fmt::format("{}{}", i, below);
    tree.add(entry);
  }
  tree.add(entry);  // it is there
  entry.path = "more";
  EXPECT_EQ(code_of([&] { tree.add(entry); }), Code::resource_exhausted);
}

// An index of files that the kernel cannot read from the tar, as they begin at odd places there,
// and so are copied; and of empty ones.
class CopiedFiles {
 public:
  CopiedFiles() { image_.add({.mode = S_IFDIR | 0755}); }
  // What it takes of the index is a power of two: the file is one chunk.
  void add(uint64_t size) {
    const erofs::Extent odd{.device_offset = 1, .size = size};
    add({.mode = S_IFREG | 0644, .size = size, .extents = {&odd, 1}});
  }
  void add_empty() { add({.mode = S_IFREG | 0644}); }
  uint64_t write() {
    return image_.write(
        {.size_bytes = 2 * limits::kIndexBytes, .read = [](uint64_t, std::span<std::byte>) {}},
        [](Bytes) {});
  }

 private:
  void add(const erofs::Inode& inode) {
    names_.push_back(fmt::format("{}", names_.size()));
    image_.add_entry(erofs::kRoot, names_.back(), image_.add(inode));
  }

  std::deque<std::string> names_;
  erofs::Image image_;
};

TEST(Limits, BytesOfAnIndex) {
  // The files take all but 4 KiB: so much has the rest of the index, with some empty files.
  constexpr uint64_t kRest = 4096;
  const auto write = [](bool is_large, size_t empty_files) {
    CopiedFiles files;
    uint64_t rest = limits::kIndexBytes - kRest;
    for (uint64_t size = limits::kIndexBytes / 2; size >= kRest; size /= 2) {
      files.add(is_large ? size : kRest);
      rest -= is_large ? size : kRest;
    }
    for (size_t i = 0; i < empty_files; ++i) files.add_empty();
    return files.write() + (is_large ? 0 : rest);
  };
  size_t empty_files = 0;
  while (write(false, empty_files + 1) <= limits::kIndexBytes) ++empty_files;
  EXPECT_EQ(write(true, empty_files), limits::kIndexBytes);
  EXPECT_EQ(write(false, empty_files + 1), limits::kIndexBytes + erofs::kBlockBytes);
  EXPECT_EQ(code_of([&] { write(true, empty_files + 1); }), Code::resource_exhausted);
}

}  // namespace
}  // namespace veneer
