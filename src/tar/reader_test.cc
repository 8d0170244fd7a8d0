#include "tar/reader.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "tar/test_archive.h"

namespace veneer::tar::test {
namespace {

const std::string kFile = member({}, "data\n");

TEST(Reader, TakesEveryFieldOfAUstarHeader) {
  const Member file = only(member({.name = "usr/bin/x",
                                   .mode = octal(04751, 7),
                                   .uid = octal(1000, 7),
                                   .gid = octal(2000, 7),
                                   .modified = octal(1700000000, 11),
                                   .prefix = "prefix/dir"},
                                  "content") +
                           kEnd);
  EXPECT_EQ(file.entry.type, EntryType::file);
  EXPECT_EQ(file.entry.path, "prefix/dir/usr/bin/x");
  EXPECT_EQ(file.entry.mode, 04751u);
  EXPECT_EQ(file.entry.uid, 1000u);
  EXPECT_EQ(file.entry.gid, 2000u);
  EXPECT_EQ(file.entry.modified, (Timestamp{1700000000, 0}));
  EXPECT_EQ(file.entry.size, 7u);
  EXPECT_EQ(file.entry.stored_size, 7u);
  EXPECT_EQ(file.entry.header_offset, 0u);
  EXPECT_EQ(file.entry.data_offset, 512u);
  EXPECT_FALSE(file.entry.sparse);
  EXPECT_EQ(file.stored, "content");
}

TEST(Reader, KnowsTheTypes) {
  const std::vector<std::pair<char, EntryType>> types = {
      {'0', EntryType::file},         {'\0', EntryType::file},     {'7', EntryType::file},
      {'1', EntryType::hard_link},    {'2', EntryType::symlink},   {'3', EntryType::char_device},
      {'4', EntryType::block_device}, {'5', EntryType::directory}, {'6', EntryType::fifo}};
  for (const auto& [flag, type] : types) {
    const Member found = only(block({.type = flag,
                                     .link_target = "target",
                                     .device_major = octal(259, 7),
                                     .device_minor = octal(70000, 7)}));
    EXPECT_EQ(found.entry.type, type) << flag;
    const bool is_link = type == EntryType::hard_link || type == EntryType::symlink;
    EXPECT_EQ(found.entry.link_target, is_link ? "target" : "");
    const bool is_device = type == EntryType::char_device || type == EntryType::block_device;
    EXPECT_EQ(found.entry.device_major, is_device ? 259u : 0u);
    EXPECT_EQ(found.entry.device_minor, is_device ? 70000u : 0u);
  }
  for (const char flag : {'Q', 'V', 'M', 'D', 'N', 'X', 's', '8', '\xff'})
    expect_refused(block({.name = "odd", .type = flag}), {.what = "\"odd\" at offset 0: the type"});
}

TEST(Reader, TakesAFileWhoseNameEndsInASlashForADirectory) {
  for (const char flag : {'0', '\0', '7'}) {
    EXPECT_EQ(only(block({.name = "d/", .type = flag})).entry.type, EntryType::directory);
    expect_refused(member({.name = "d/", .type = flag}, "x"), {.what = "a directory has data"});
  }
  const Member named = only(pax(record("path", "d/")) + block({}));
  EXPECT_EQ(named.entry.type, EntryType::directory);
}

TEST(Reader, ReadsV7AndOldGnuHeadersWithoutAPrefix) {
  const std::string times = octal(1, 11) + '\0' + octal(2, 11);
  EXPECT_EQ(only(block({.magic = "", .prefix = times})).entry.path, "f");
  EXPECT_EQ(only(block({.magic = std::string(kOldGnu), .prefix = times})).entry.path, "f");
  EXPECT_EQ(only(block({.prefix = std::string(155, 'p')})).entry.path,
            std::string(155, 'p') + "/f");
  EXPECT_EQ(only(block({.name = std::string(100, 'n')})).entry.path, std::string(100, 'n'));
}

TEST(Reader, NeedsARightChecksum) {
  expect_refused(kFile + block({.name = "bad", .checksum_error = 1}),
                 {.what = "at offset 1024: the header's checksum is wrong", .good = 1});
  EXPECT_EQ(only(block({.name = "\xff\xfe", .has_signed_checksum = true})).entry.path, "\xff\xfe");
  EXPECT_EQ(only(block({.name = "\xff\xfe"})).entry.path, "\xff\xfe");
  // Any one changed bit is noticed, outside of the checksum's own digits.
  for (size_t bit = 0; bit < 512 * 8; ++bit) {
    if (bit / 8 >= 148 && bit / 8 < 156) continue;
    std::string flipped = block({});
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_EQ(list(flipped).code, Code::corrupt) << bit;
  }
}

TEST(Reader, LeavesTheFileTypeOutOfTheMode) {
  EXPECT_EQ(only(block({.mode = octal(0104755, 7)})).entry.mode, 04755u);
}

TEST(Reader, EndsAtEndBlocksOrBetweenMembers) {
  EXPECT_EQ(list("").error, "");
  EXPECT_EQ(list(kEnd).error, "");
  EXPECT_EQ(list(kFile).members.size(), 1u);
  EXPECT_EQ(list(kFile + std::string(512, '\0')).members.size(), 1u);
  EXPECT_EQ(list(kFile + std::string(512, '\0')).error, "");
  // What follows the end is not parsed, but read.
  const std::string more = kFile + kEnd + kFile + "trailing bytes";
  for (const size_t piece : {size_t{1}, size_t{512}, kChunkBytes}) {
    const Listing listing = list(more, piece);
    EXPECT_EQ(listing.members.size(), 1u);
    EXPECT_EQ(listing.error, "");
    EXPECT_EQ(listing.offset, more.size());
  }
}

TEST(Reader, RefusesALoneBlockOfZeros) {
  expect_refused(kFile + std::string(512, '\0') + kFile, {.what = "a lone block", .good = 1});
  expect_refused(std::string(512, '\0') + "x", {.what = "cut off"});
}

TEST(Reader, StaysAtTheEnd) {
  MemorySource source(bytes_of(kFile));
  Reader reader(source);
  EXPECT_FALSE(reader.read());
  EXPECT_NE(reader.next(), nullptr);
  EXPECT_EQ(reader.next(), nullptr);
  EXPECT_EQ(reader.next(), nullptr);
  EXPECT_FALSE(reader.read());
}

TEST(Reader, SkipsWhatIsNotRead) {
  const std::string archive = member({.name = "a"}, std::string(1000, 'a')) +
                              member({.name = "b"}, std::string(2000, 'b')) + kEnd;
  MemorySource source(bytes_of(archive), 300);
  Reader reader(source);
  ASSERT_NE(reader.next(), nullptr);
  const std::optional<Piece> piece = reader.read();
  ASSERT_TRUE(piece);
  EXPECT_LT(piece->bytes.size(), 1000u);
  const Entry* second = reader.next();
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->path, "b");
  EXPECT_EQ(second->header_offset, 1536u);
  EXPECT_EQ(second->data_offset, 2048u);
  EXPECT_EQ(reader.next(), nullptr);
}

TEST(Reader, GivesContentWithoutCopyingIt) {
  const std::string archive = member({}, std::string(100'000, 'x'));
  MemorySource source(bytes_of(archive));
  Reader reader(source);
  ASSERT_NE(reader.next(), nullptr);
  const std::optional<Piece> piece = reader.read();
  ASSERT_TRUE(piece);
  EXPECT_EQ(piece->bytes.data(), bytes_of(archive).data() + 512);
  EXPECT_EQ(piece->bytes.size(), 100'000u);
}

TEST(Reader, RefusesNamesThatAreEmpty) {
  expect_refused(block({.name = ""}), {.what = "the path is empty"});
  expect_refused(block({.type = '1'}), {.what = "the link target is empty"});
  expect_refused(block({.type = '2'}), {.what = "the link target is empty"});
}

// --- sizes -----------------------------------------------------------------------------------

TEST(Reader, BelievesThePaxSizeForWhatIsSkippedOfEveryType) {
  // The header's own size would make the next header lie in the data, or the data in a header.
  const std::string hidden = block({.name = "hidden"});
  const std::string size = pax(record("size", "512"));
  for (const char type : {'0', '\0', '7', '1', '2', '3', '4', '5', '6'}) {
    for (const uint64_t header_size : {0u, 512u, 1024u}) {
      const std::string archive =
          size + block({.type = type, .size = octal(header_size, 11), .link_target = "t"}) +
          hidden + block({.name = "next"}) + kEnd;
      const Listing listing = list(archive);
      EXPECT_EQ(listing.error, "");
      ASSERT_EQ(listing.members.size(), 2u) << type << header_size;
      EXPECT_EQ(listing.members[1].entry.path, "next");
      const bool is_file = type == '0' || type == '\0' || type == '7';
      EXPECT_EQ(listing.members[0].stored, is_file ? hidden : "");
      EXPECT_EQ(listing.members[0].entry.size, is_file ? 512u : 0u);
      EXPECT_EQ(listing.members[0].entry.stored_size, is_file ? 512u : 0u);
    }
  }
}

TEST(Reader, BelievesAPaxSizeOfZero) {
  const Listing listing =
      list(pax(record("size", "0")) + block({.size = octal(512, 11)}) + block({.name = "next"}));
  ASSERT_EQ(listing.members.size(), 2u);
  EXPECT_EQ(listing.members[0].entry.size, 0u);
}

TEST(Reader, IgnoresTheHeadersSizeOfWhatHasNoData) {
  for (const char type : {'1', '2', '3', '4', '5', '6'}) {
    const Listing listing =
        list(block({.type = type, .size = octal(512, 11), .link_target = "t"}) + kFile);
    ASSERT_EQ(listing.members.size(), 2u) << type;
    EXPECT_EQ(listing.members[0].entry.size, 0u);
  }
}

TEST(Reader, BoundsTheSizeOfALayer) {
  const auto sized = [](uint64_t size) {
    return block({.name = "big", .size = base256(static_cast<int64_t>(size), 12)});
  };
  const auto first = [](const std::string& archive) {
    MemorySource source(bytes_of(archive));
    Reader reader(source);
    return reader.next()->size;
  };
  EXPECT_EQ(first(sized(limits::kLayerBytes - 512)), limits::kLayerBytes - 512);
  for (const uint64_t size :
       {limits::kLayerBytes - 511, limits::kLayerBytes, uint64_t{1} << 62, (uint64_t{1} << 63) - 1})
    expect_refused(sized(size), {Code::resource_exhausted, "\"big\" at offset 0: the layer has"});
  expect_refused(pax(record("size", "18446744073709551615")) + block({.type = '5'}),
                 {Code::resource_exhausted, "the layer has"});
  expect_refused(pax(record("size", "18446744073709551616")) + block({}), {.what = "PAX size"});
}

// End blocks, and after them any number of bytes that cannot be read.
class HugeSource : public Source {
 public:
  explicit HugeSource(uint64_t size) : left_(size) {
    void* at =
        ::mmap(nullptr, kMapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    VENEER_CHECK(at != MAP_FAILED);
    bytes_ = {static_cast<const std::byte*>(at), kMapped};
  }
  HugeSource(const HugeSource&) = delete;
  ~HugeSource() override { ::munmap(const_cast<std::byte*>(bytes_.data()), kMapped); }
  Bytes next(Room) override {
    if (!has_ended_) {
      has_ended_ = true;
      return bytes_of(kEnd);
    }
    const Bytes piece = bytes_.first(std::min<uint64_t>(left_, kMapped));
    left_ -= piece.size();
    return piece;
  }

 private:
  static constexpr size_t kMapped = size_t{1} << 36;
  uint64_t left_;
  bool has_ended_ = false;
  Bytes bytes_;
};

TEST(Reader, BoundsWhatFollowsTheEnd) {
  for (const bool is_too_much : {false, true}) {
    HugeSource source(limits::kLayerBytes - kEnd.size() + (is_too_much ? 1 : 0));
    Reader reader(source);
    EXPECT_EQ(reader.next(), nullptr);
    if (is_too_much) {
      EXPECT_THROW(reader.drain(), Error);
    } else {
      reader.drain();
      EXPECT_EQ(reader.offset(), limits::kLayerBytes);
    }
  }
}

TEST(Reader, LimitsTheNumberOfEntries) {
  std::string archive;
  for (int i = 0; i < 4; ++i) archive += kFile;
  for (const uint64_t limit : {3u, 4u}) {
    MemorySource source(bytes_of(archive));
    Reader reader(source, limit);
    for (uint64_t i = 0; i < limit; ++i) ASSERT_NE(reader.next(), nullptr);
    if (limit == 4) {
      EXPECT_EQ(reader.next(), nullptr);
    } else {
      EXPECT_THROW(reader.next(), Error);
    }
  }
}

// --- any cut, any pieces -----------------------------------------------------------------------

// Something of everything.
std::string sample() {
  const std::string attributes = record("mtime", "1700000000.5") +
                                 record("SCHILY.xattr.user.a", "value") + record("uid", "70000");
  std::string old_gnu_map = std::string(41, '\0');
  for (const uint64_t number : {0u, 600u, 4096u, 100u}) old_gnu_map += octal(number, 11) + '\0';
  old_gnu_map.resize(137, '\0');
  return member({.name = "dir/", .type = '5'}) + member({.name = "dir/file"}, "some content\n") +
         extended('g', record("gid", "5")) + pax(attributes) +
         member({.name = "pax"}, std::string(1500, 'p')) +
         extended('L', std::string(120, 'l') + '\0') + extended('K', std::string(130, 'k') + '\0') +
         member({.type = '2'}) +
         member({.name = "sparse",
                 .type = 'S',
                 .magic = std::string(kOldGnu),
                 .prefix = old_gnu_map + '\0' + octal(10'000, 11)},
                std::string(700, 's')) +
         pax(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
             record("GNU.sparse.name", "holes") + record("GNU.sparse.realsize", "9000")) +
         member({}, padded("2\n1000\n5\n9000\n0\n") + "12345") +
         member({.name = "hard", .type = '1', .link_target = "dir/file"}) + kEnd;
}

TEST(Reader, DoesNotCareHowTheStreamIsCut) {
  const std::string archive = sample();
  const Listing whole = list(archive);
  ASSERT_EQ(whole.error, "");
  ASSERT_EQ(whole.members.size(), 7u);
  for (const size_t piece : {1u, 7u, 511u, 512u, 513u}) {
    const Listing listing = list(archive, piece);
    ASSERT_EQ(listing.error, "") << piece;
    ASSERT_EQ(listing.members.size(), whole.members.size());
    for (size_t i = 0; i < whole.members.size(); ++i)
      EXPECT_EQ(listing.members[i], whole.members[i]) << piece << " " << i;
  }
}

TEST(Reader, ThrowsForEveryPrefixOrGivesAPrefixOfTheEntries) {
  const std::string archive = sample();
  const Listing whole = list(archive);
  for (size_t size = 0; size < archive.size(); ++size) {
    for (const size_t piece : {512u, 7u, 1u}) {
      // Small pieces take long: at all borders of blocks, and at some other places.
      if (piece != 512 && (size + 1) % 512 > 2 && size % 101 != piece) continue;
      const Listing listing = list(std::string_view(archive).substr(0, size), piece);
      ASSERT_LE(listing.members.size(), whole.members.size());
      const size_t complete = listing.members.size() - (listing.code && !listing.members.empty());
      for (size_t i = 0; i < complete; ++i)
        ASSERT_EQ(listing.members[i], whole.members[i]) << size << " " << i;
      if (listing.code) {
        ASSERT_EQ(*listing.code, Code::corrupt) << listing.error;
      } else {
        // Only between members, or in the end blocks' border.
        ASSERT_EQ(size % 512, 0u);
      }
    }
  }
}

TEST(Reader, NamesTheEntryAndItsOffset) {
  const std::string archive = kFile + pax(record("path", "the/name")) + member({}, "content");
  expect_refused(archive.substr(0, archive.size() - 510),
                 {.what = "entry \"the/name\" at offset 1024: the archive is cut off", .good = 2});
}

}  // namespace
}  // namespace veneer::tar::test
