#include "erofs/writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/digest.h"
#include "base/error.h"
#include "base/limits.h"
#include "erofs/format.h"

namespace veneer::erofs {
namespace {

constexpr Inode kDirectory{.mode = S_IFDIR | 0755};
constexpr Inode kFile{.mode = S_IFREG | 0644};

std::string write(Image& image, uint64_t device_size = 0) {
  std::string bytes;
  const auto read = [](uint64_t offset, std::span<std::byte> buffer) {
    for (std::byte& byte : buffer) byte = std::byte(offset++ % 251);
  };
  const uint64_t size = image.write(
      {.size_bytes = device_size, .tag = "tag", .read = read},
      [&](Bytes part) { bytes.append(reinterpret_cast<const char*>(part.data()), part.size()); });
  EXPECT_EQ(size, bytes.size());
  EXPECT_EQ(size % kBlockBytes, 0U);
  return bytes;
}

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

template <typename T>
T struct_at(const std::string& bytes, size_t offset) {
  T value;
  std::memcpy(&value, &bytes.at(offset + sizeof value - 1) - (sizeof value - 1), sizeof value);
  return value;
}

Superblock superblock_of(const std::string& bytes) {
  return struct_at<Superblock>(bytes, kSuperblockAt);
}

// The names of the root directory, which is compact (its mtime is the epoch), as they lie.
std::vector<std::string> root_names(const std::string& bytes) {
  const size_t inode_at = superblock_of(bytes).root_nid * size_t{kSlotBytes};
  const auto inode = struct_at<CompactInode>(bytes, inode_at);
  const bool is_inline = inode.format == inode_format(DataLayout::tail_inline, false);
  const size_t begin = is_inline ? inode_at + sizeof inode : inode.data * size_t{kBlockBytes};
  std::vector<std::string> names;
  for (size_t at = 0; at < inode.size; at += kBlockBytes) {
    const std::string block = bytes.substr(begin + at, std::min<size_t>(512, inode.size - at));
    const size_t count = struct_at<Dirent>(block, 0).name_at / sizeof(Dirent);
    for (size_t i = 0; i < count; ++i) {
      const size_t name_at = struct_at<Dirent>(block, i * sizeof(Dirent)).name_at;
      const size_t end = i + 1 < count ? struct_at<Dirent>(block, (i + 1) * sizeof(Dirent)).name_at
                                       : std::min(block.find('\0', name_at), block.size());
      names.push_back(block.substr(name_at, end - name_at));
    }
  }
  return names;
}

// Something of everything. The strings it refers to are literals.
void fill(Image& image) {
  const NodeId root = image.add({.mode = S_IFDIR | 0755, .mtime = {.tv_sec = 1000, .tv_nsec = 5}});
  const std::vector<Xattr> set{{"user.a", "value"}, {"security.b", "other"}};
  const Extent whole{.device_offset = 512, .size = 700};
  const NodeId file = image.add({.mode = S_IFREG | 04755,
                                 .uid = 70000,
                                 .mtime = {.tv_sec = -1, .tv_nsec = 999'999'999},
                                 .xattrs = image.intern_xattrs(set),
                                 .size = 700,
                                 .extents = {&whole, 1}});
  image.add_entry(root, "file", file);
  const NodeId dir = image.add({.mode = S_IFDIR | 01777, .mtime = {.tv_sec = 1000, .tv_nsec = 5}});
  image.add_entry(root, "dir", dir);
  image.add_entry(dir, "link", file);
  image.add_entry(dir, "symlink", image.add({.mode = S_IFLNK | 0777, .target = "../file"}));
  image.add_entry(dir, "null",
                  image.add({.mode = S_IFCHR | 0666, .device_major = 1, .device_minor = 3}));
  image.add_entry(dir, "fifo", image.add({.mode = S_IFIFO | 0600}));
  const std::vector<Extent> extents{{.file_offset = 100, .device_offset = 600, .size = 50},
                                    {.file_offset = 8192, .device_offset = 1024, .size = 512}};
  image.add_entry(dir, "sparse",
                  image.add({.mode = S_IFREG | 0644, .size = 1 << 20, .extents = extents}));
}

TEST(Image, GoldenBytes) {
  Image image;
  fill(image);
  const std::string bytes = write(image, 2048);
  EXPECT_EQ(Sha256::of(bytes).hex(),
            "709f89ee61e934740ff8d53069db532695cf64dd0cee9732226ed4cecf6c0e6b");
}

TEST(Image, SameCallsSameBytes) {
  Image first;
  Image second;
  fill(first);
  fill(second);
  const std::string bytes = write(first, 2048);
  EXPECT_EQ(write(second, 2048), bytes);
  EXPECT_EQ(write(second, 2048), bytes) << "written again";
  EXPECT_NE(write(second, 4096), bytes);
}

TEST(Image, SuperblockSaysWhatIsThere) {
  Image image;
  fill(image);
  const std::string bytes = write(image, 2049);
  const Superblock super = superblock_of(bytes);
  EXPECT_EQ(super.magic, kMagic);
  EXPECT_EQ(super.inodes, 7U);
  EXPECT_EQ(super.blocks, bytes.size() / kBlockBytes);
  EXPECT_EQ(super.epoch, 0) << "what four of the seven have";
  EXPECT_EQ(super.epoch_nanoseconds, 0U);
  const auto slot = struct_at<DeviceSlot>(bytes, kDeviceSlotAt);
  EXPECT_EQ(slot.blocks, 5U);
  EXPECT_EQ(slot.unified_start, super.blocks);
  EXPECT_STREQ(slot.tag.data(), "tag");
}

TEST(Image, NamesAreSortedAsBytesWithTheDots) {
  Image image;
  image.add(kDirectory);
  const NodeId file = image.add(kFile);
  for (const char* name : {"b", "-", "a.", "\xff", "a", "...", ".a", "!", "Z", "a\x01", "~"})
    image.add_entry(kRoot, name, file);
  EXPECT_EQ(root_names(write(image)),
            (std::vector<std::string>{"!", "-", ".", "..", "...", ".a", "Z", "a", "a\x01", "a.",
                                      "b", "~", "\xff"}));
}

TEST(Image, LongNamesSortBeyondTheirFirstBytes) {
  Image image;
  image.add(kDirectory);
  const NodeId file = image.add(kFile);
  std::vector<std::string> names;
  for (int i = 0; i < 1000; ++i) names.push_back(fmt::format("a long name, number {:x}", i * 7919));
  for (const std::string& name : names) image.add_entry(kRoot, name, file);
  names.insert(names.end(), {".", ".."});
  std::ranges::sort(names);
  EXPECT_EQ(root_names(write(image)), names);
}

TEST(Image, NamesThatNoFileCanHaveAreRefused) {
  Image image;
  image.add(kDirectory);
  const NodeId file = image.add(kFile);
  for (const std::string_view name :
       {std::string_view(""), std::string_view("."), std::string_view(".."),
        std::string_view("a/b"), std::string_view("a\0b", 3)})
    EXPECT_EQ(code_of([&] { image.add_entry(kRoot, name, file); }), Code::invalid_argument);
}

TEST(Image, LimitsOfNamesAndTargets) {
  Image image;
  image.add(kDirectory);
  const NodeId file = image.add(kFile);
  const std::string name(limits::kNameBytes + 1, 'n');
  image.add_entry(kRoot, std::string_view(name).substr(1), file);
  EXPECT_EQ(code_of([&] { image.add_entry(kRoot, name, file); }), Code::resource_exhausted);

  const std::string target(limits::kLinkTargetBytes + 1, 't');
  const auto add = [&](std::string_view text) {
    return image.add({.mode = S_IFLNK | 0777, .target = text});
  };
  image.add_entry(kRoot, "link", add(std::string_view(target).substr(1)));
  EXPECT_EQ(code_of([&] { add(target); }), Code::resource_exhausted);
  EXPECT_EQ(code_of([&] { add(""); }), Code::invalid_argument);
  EXPECT_EQ(code_of([&] { add(std::string_view("a\0b", 3)); }), Code::invalid_argument);
  EXPECT_EQ(root_names(write(image)).size(), 4U);
}

TEST(Image, LimitsOfNumbers) {
  Image image;
  image.add(kDirectory);
  const auto add_device = [&](uint32_t major, uint32_t minor) {
    image.add({.mode = S_IFBLK | 0600, .device_major = major, .device_minor = minor});
  };
  add_device(4095, 1048575);
  EXPECT_EQ(code_of([&] { add_device(4096, 0); }), Code::invalid_argument);
  EXPECT_EQ(code_of([&] { add_device(0, 1048576); }), Code::invalid_argument);
  const auto add_time = [&](long nanoseconds) {
    image.add({.mode = S_IFREG, .mtime = {.tv_sec = 0, .tv_nsec = nanoseconds}});
  };
  add_time(999'999'999);
  EXPECT_EQ(code_of([&] { add_time(1'000'000'000); }), Code::invalid_argument);
  EXPECT_EQ(code_of([&] { add_time(-1); }), Code::invalid_argument);
  image.add({.mode = S_IFREG, .size = limits::kFileBytes});
  EXPECT_EQ(code_of([&] { image.add({.mode = S_IFREG, .size = limits::kFileBytes + 1}); }),
            Code::resource_exhausted);
  EXPECT_EQ(code_of([&] { image.add({.mode = 0644}); }), Code::invalid_argument);
  EXPECT_EQ(code_of([&] { image.add({.mode = 0x10000 | S_IFREG}); }), Code::invalid_argument);
}

TEST(Image, LimitsOfTheDevice) {
  Image image;
  image.add(kDirectory);
  EXPECT_EQ(struct_at<DeviceSlot>(write(image, limits::kIndexedBytes), kDeviceSlotAt).blocks,
            0xffffffffU);
  EXPECT_EQ(code_of([&] { write(image, limits::kIndexedBytes + 1); }), Code::resource_exhausted);
  const auto write_tagged = [&](size_t size) {
    image.write({.tag = std::string(size, 't')}, [](Bytes) {});
  };
  write_tagged(64);
  EXPECT_EQ(code_of([&] { write_tagged(65); }), Code::invalid_argument);
}

// The last block of the largest device has a number that the flat form of a file cannot hold.
TEST(Image, BlocksBeyondTheFlatNumbersGetAnIndex) {
  Image image;
  image.add(kDirectory);
  const Extent extent{.device_offset = limits::kIndexedBytes - 512, .size = 512};
  image.add_entry(kRoot, "file",
                  image.add({.mode = S_IFREG, .size = 512, .extents = {&extent, 1}}));
  const std::string bytes = write(image, limits::kIndexedBytes);
  const size_t at = kMetadataAt + 96;  // after the root with its one short block
  const auto inode = struct_at<CompactInode>(bytes, at);
  EXPECT_EQ(inode.format, inode_format(DataLayout::chunks, false));
  EXPECT_EQ(inode.data, kChunkIndexes);
  const auto index = struct_at<ChunkIndex>(bytes, at + sizeof inode);
  EXPECT_EQ(index.device, 1);
  EXPECT_EQ(index.start_block, 0xfffffffeU);
}

TEST(Image, ExtentsMustFitFileAndDevice) {
  Image image;
  image.add(kDirectory);
  const auto add = [&](std::vector<Extent> extents) {
    return image.add({.mode = S_IFREG, .size = 1000, .extents = extents});
  };
  add({{0, 512, 500}, {500, 2048, 500}});
  const std::vector<std::vector<Extent>> bad{
      {{0, 512, 1001}},
      {{1001, 512, 0}},
      {{1000, 512, 1}},
      {{0, 512, 501}, {500, 2048, 500}},
      {{500, 512, 500}, {0, 2048, 500}},
      {{1, 512, ~uint64_t{0}}},
      {{0, ~uint64_t{0} - 10, 1000}},
  };
  for (const auto& extents : bad) EXPECT_EQ(code_of([&] { add(extents); }), Code::invalid_argument);
  image.add_entry(kRoot, "file", add({{0, 512, 500}}));
  write(image, 1012);
  EXPECT_EQ(code_of([&] { write(image, 1011); }), Code::invalid_argument);
}

TEST(Image, LimitOfExtents) {
  Image image;
  image.add(kDirectory);
  std::vector<Extent> extents;
  for (uint64_t i = 0; i <= limits::kSparseSegments; ++i) extents.push_back({i * 512, i * 512, 1});
  const auto add = [&](size_t count) {
    return image.add(
        {.mode = S_IFREG, .size = limits::kFileBytes, .extents = std::span(extents).first(count)});
  };
  image.add_entry(kRoot, "file", add(limits::kSparseSegments));
  EXPECT_EQ(code_of([&] { add(limits::kSparseSegments + 1); }), Code::resource_exhausted);
}

// A tar of two megabytes cannot ask for an index of gigabytes.
TEST(Image, AnIndexBeyondItsLimitIsNotBegun) {
  Image image;
  image.add(kDirectory);
  std::vector<Extent> extents;
  for (uint64_t i = 0; i < limits::kSparseSegments; ++i)
    extents.push_back({(i << 27) + 1, i * 2, 1});
  image.add_entry(kRoot, "file",
                  image.add({.mode = S_IFREG, .size = limits::kFileBytes, .extents = extents}));
  EXPECT_EQ(
      code_of([&] { image.write({.size_bytes = 1 << 21}, [](Bytes) { FAIL() << "written"; }); }),
      Code::resource_exhausted);
}

TEST(Image, EqualNamesAndSecondNamesOfDirectoriesAreRefused) {
  Image image;
  image.add(kDirectory);
  const NodeId dir = image.add(kDirectory);
  image.add_entry(kRoot, "dir", dir);
  EXPECT_EQ(code_of([&] { image.add_entry(kRoot, "other", dir); }), Code::invalid_argument);
  image.add_entry(kRoot, "dir", image.add(kFile));
  EXPECT_EQ(code_of([&] { write(image); }), Code::invalid_argument);
}

TEST(Image, NodesWithoutANameAreLeftOut) {
  Image named;
  named.add(kDirectory);
  named.add_entry(kRoot, "file", named.add(kFile));
  Image image;
  image.add(kDirectory);
  image.add_entry(kRoot, "file", image.add(kFile));
  image.add(kDirectory);
  image.add({.mode = S_IFREG, .size = 5});
  EXPECT_EQ(write(image), write(named));
}

TEST(Image, ReadAndSinkErrorsPassThrough) {
  Image image;
  image.add(kDirectory);
  const Extent odd{.device_offset = 1, .size = 600};
  image.add_entry(kRoot, "odd", image.add({.mode = S_IFREG, .size = 600, .extents = {&odd, 1}}));
  const auto bad_read = [](uint64_t, std::span<std::byte>) { fail(Code::io, "read"); };
  EXPECT_EQ(code_of([&] { image.write({.size_bytes = 1024, .read = bad_read}, [](Bytes) {}); }),
            Code::io);
  Image empty;
  empty.add(kDirectory);
  EXPECT_EQ(code_of([&] { empty.write({}, [](Bytes) { fail(Code::unavailable, "sink"); }); }),
            Code::unavailable);
}

// A file of one byte in eight tebibytes takes 16 MiB: half of it for the chunk that has the byte,
// and half to say which that is.
TEST(Image, DataInTheIndexIsLimitedByTheSizeOfTheDevice) {
  constexpr uint64_t kEach = 16 << 20;
  constexpr uint64_t kFiles = limits::kIndexDataBytes / kEach;
  const auto size_with = [](uint64_t files, uint64_t device_size) {
    Image image;
    image.add(kDirectory);
    const NodeId directory = image.add(kDirectory);
    image.add_entry(kRoot, "d", directory);
    const Extent extent{.file_offset = 1, .device_offset = 0, .size = 1};
    std::vector<std::string> names;
    for (uint64_t i = 0; i < files; ++i) names.push_back(fmt::format("f{}", i));
    for (const std::string& name : names)
      image.add_entry(
          directory, name,
          image.add({.mode = S_IFREG | 0644, .size = limits::kFileBytes, .extents = {&extent, 1}}));
    const auto read = [](uint64_t, std::span<std::byte> buffer) {
      std::ranges::fill(buffer, std::byte{1});
    };
    return image.write({.size_bytes = device_size, .tag = "tag", .read = read}, [](Bytes) {});
  };
  EXPECT_GT(size_with(kFiles, 2), limits::kIndexDataBytes);
  EXPECT_GT(size_with(kFiles + 1, kEach), limits::kIndexDataBytes + kEach);
  try {
    size_with(kFiles + 1, kEach - 1);
    ADD_FAILURE() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::resource_exhausted);
    EXPECT_NE(error.message().find("\"d/f4\" takes 16777216 bytes"), std::string::npos)
        << error.message();
  }
}

}  // namespace
}  // namespace veneer::erofs
