#include "tar/sparse.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "tar/test_archive.h"

namespace veneer::tar::test {
namespace {

using Segments = std::vector<Segment>;

std::string number(uint64_t value) {
  return octal(value, 11) + '\0';
}

std::string pairs(const Segments& segments) {
  std::string text;
  for (const Segment& segment : segments) text += number(segment.offset) + number(segment.size);
  return text;
}

std::string extension(const Segments& segments, bool has_more = false) {
  std::string text = pairs(segments);
  text.resize(512);
  text[504] = has_more ? '\1' : '\0';
  return text;
}

struct OldGnu {
  Segments segments;
  uint64_t real_size = 10'000;
  std::string data = {};
  bool has_extension = false;
  std::string extensions = {};
  std::string magic = std::string(kOldGnu);
};

std::string old_gnu(const OldGnu& file) {
  std::string fields(41, '\0');
  fields += pairs(file.segments);
  fields.resize(137);
  fields += file.has_extension ? '\1' : '\0';
  fields += number(file.real_size);
  return block({.name = "sparse",
                .type = 'S',
                .size = octal(file.data.size(), 11),
                .magic = file.magic,
                .prefix = fields}) +
         file.extensions + padded(file.data) + block({.name = "next"}) + kEnd;
}

std::string with_pax(const std::string& records, const std::string& data) {
  return pax(records) + member({.name = "GNUSparseFile.1/sparse"}, data) + block({.name = "next"}) +
         kEnd;
}

// The map of PAX 0.0 as records.
std::string records_of(const Segments& segments) {
  std::string text = record("GNU.sparse.size", "10000") +
                     record("GNU.sparse.numblocks", std::to_string(segments.size()));
  for (const Segment& segment : segments)
    text += record("GNU.sparse.offset", std::to_string(segment.offset)) +
            record("GNU.sparse.numbytes", std::to_string(segment.size));
  return text;
}

std::string version_0_1(const std::string& map, size_t count, std::string_view size = "10000") {
  return record("GNU.sparse.size", size) + record("GNU.sparse.numblocks", std::to_string(count)) +
         record("GNU.sparse.name", "sparse") + record("GNU.sparse.map", map);
}

std::string version_1_0(std::string_view size = "10000") {
  return record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
         record("GNU.sparse.name", "sparse") + record("GNU.sparse.realsize", size);
}

// The first of two entries; the second must follow it rightly.
Member first(const std::string& archive) {
  const Listing listing = list(archive);
  EXPECT_EQ(listing.error, "");
  EXPECT_EQ(listing.members.size(), 2u);
  if (listing.members.size() != 2) return {};
  EXPECT_EQ(listing.members[1].entry.path, "next");
  EXPECT_FALSE(listing.members[1].entry.sparse);
  EXPECT_TRUE(listing.members[1].entry.segments.empty());
  return listing.members[0];
}

const Segments kSegments = {{100, 5}, {105, 2}, {9990, 10}};
const std::string kData = "12345ab0123456789";

void expect_sample(const Member& file, std::string_view path = "sparse") {
  EXPECT_EQ(file.entry.path, path);
  EXPECT_EQ(file.entry.type, EntryType::file);
  EXPECT_TRUE(file.entry.sparse);
  EXPECT_EQ(file.entry.size, 10'000u);
  EXPECT_EQ(file.entry.stored_size, kData.size());
  EXPECT_EQ(file.entry.segments, kSegments);
  EXPECT_EQ(file.stored, kData);
}

TEST(Sparse, IsReadInEveryForm) {
  Segments with_end = kSegments;
  with_end.push_back({10'000, 0});
  expect_sample(first(old_gnu({.segments = with_end, .data = kData})));
  expect_sample(first(old_gnu({.segments = kSegments, .data = kData})));
  expect_sample(first(with_pax(records_of(with_end), kData)), "GNUSparseFile.1/sparse");
  expect_sample(first(with_pax(version_0_1("100,5,105,2,9990,10,10000,0", 4), kData)));
  const std::string map = padded("4\n100\n5\n105\n2\n9990\n10\n10000\n0\n");
  const Member file = first(with_pax(version_1_0(), map + kData));
  expect_sample(file);
  EXPECT_EQ(file.entry.data_offset, 4 * 512u);
}

TEST(Sparse, GivesPiecesInTheirPlaces) {
  const std::string archive = with_pax(records_of(kSegments), kData);
  for (const size_t size : {size_t{1}, size_t{3}, kChunkBytes}) {
    MemorySource source(bytes_of(archive), size);
    Reader reader(source);
    ASSERT_NE(reader.next(), nullptr);
    std::string content(10'000, '.');
    while (const std::optional<Piece> piece = reader.read())
      content.replace(piece->offset, piece->bytes.size(),
                      reinterpret_cast<const char*>(piece->bytes.data()), piece->bytes.size());
    std::string wanted(10'000, '.');
    wanted.replace(100, 7, "12345ab");
    wanted.replace(9990, 10, "0123456789");
    EXPECT_EQ(content, wanted);
  }
}

TEST(Sparse, MayBeAllHole) {
  for (const std::string& archive :
       {old_gnu({.segments = {{10'000, 0}}}), old_gnu({.segments = {}}),
        with_pax(records_of({}), ""), with_pax(records_of({{10'000, 0}}), ""),
        with_pax(version_0_1("10000,0", 1), ""), with_pax(version_1_0(), padded("0\n")),
        with_pax(version_1_0(), padded("1\n10000\n0\n"))}) {
    const Member file = first(archive);
    EXPECT_TRUE(file.entry.sparse);
    EXPECT_EQ(file.entry.size, 10'000u);
    EXPECT_EQ(file.entry.stored_size, 0u);
    EXPECT_TRUE(file.entry.segments.empty());
  }
}

TEST(Sparse, OldGnuMapsGoOnInExtensions) {
  Segments all;
  std::string data;
  for (uint64_t i = 0; i < 4 + 21 + 3; ++i) {
    all.push_back({i * 300, 10});
    data += std::string(10, static_cast<char>('a' + i));
  }
  const auto part = [&all](size_t from, size_t size) {
    return Segments(all.begin() + static_cast<ptrdiff_t>(from),
                    all.begin() + static_cast<ptrdiff_t>(from + size));
  };
  const std::string extensions = extension(part(4, 21), true) + extension(part(25, 3));
  const Member file = first(old_gnu(
      {.segments = part(0, 4), .data = data, .has_extension = true, .extensions = extensions}));
  EXPECT_EQ(file.entry.segments, all);
  EXPECT_EQ(file.stored, data);
  EXPECT_EQ(file.entry.data_offset, 3 * 512u);

  expect_refused(old_gnu({.segments = part(0, 3),
                          .data = data.substr(0, 30),
                          .has_extension = true,
                          .extensions = extension({})}),
                 {.what = "goes on after its end"});
  expect_refused(old_gnu({.segments = part(0, 4), .data = data.substr(0, 40), .magic = "ustar"}),
                 {.what = "without its magic"});
}

TEST(Sparse, RefusesMapsThatLie) {
  const auto refused = [](const Segments& segments, const std::string& data,
                          const std::string& what, Code code = Code::corrupt) {
    expect_refused(old_gnu({.segments = segments, .data = data}), {code, what});
    expect_refused(with_pax(records_of(segments), data), {code, what});
    std::string map;
    std::string lines = std::to_string(segments.size()) + "\n";
    for (const Segment& segment : segments) {
      map += fmt::format("{}{},{}", map.empty() ? "" : ",", segment.offset, segment.size);
      lines += fmt::format("{}\n{}\n", segment.offset, segment.size);
    }
    expect_refused(with_pax(version_0_1(map, segments.size()), data), {code, what});
    expect_refused(with_pax(version_1_0(), padded(lines) + data), {code, what});
  };
  refused({{100, 5}}, "1234", "segments have 5 bytes, its data 4");
  refused({{100, 5}}, "123456", "segments have 5 bytes, its data 6");
  refused({{100, 5}, {104, 1}}, "123456", "not in order");
  refused({{100, 5}, {50, 1}}, "123456", "not in order");
  refused({{9999, 2}}, "12", "ends after its size");
  refused({{20'000, 2}}, "12", "ends after its size");
  refused({{0, (uint64_t{1} << 33) - 1}}, "12", "ends after its size");
}

TEST(Sparse, RefusesNumbersThatOverflow) {
  const std::string huge = "18446744073709551615";
  expect_refused(with_pax(version_0_1("5," + huge, 1), "x"),
                 {Code::resource_exhausted, "a sparse segment beyond"});
  expect_refused(with_pax(version_0_1(huge + ",5", 1), "x"),
                 {Code::resource_exhausted, "a sparse segment beyond"});
  expect_refused(with_pax(version_0_1("5,18446744073709551616", 1), "x"), {.what = "decimal"});
  expect_refused(with_pax(version_1_0(), padded("1\n5\n" + huge + "\n")), {.what = "the map"});
  expect_refused(with_pax(version_1_0(), padded(huge + "0000000000\n")), {.what = "the map"});
  const std::string most = std::to_string(limits::kFileBytes);
  EXPECT_EQ(first(with_pax(version_0_1("", 0, most), "")).entry.size, limits::kFileBytes);
  expect_refused(with_pax(version_0_1("0,0", 1, std::to_string(limits::kFileBytes + 1)), ""),
                 {Code::resource_exhausted, "8796093022208"});
}

TEST(Sparse, LimitsTheSegments) {
  const auto map = [](size_t count) {
    std::string lines = std::to_string(count + 1) + "\n";
    for (size_t i = 0; i < count; ++i) lines += std::to_string(2 * i) + "\n1\n";
    return padded(lines + "1000000\n0\n");
  };
  const auto archive = [&map](size_t count) {
    return with_pax(version_1_0("1000000"), map(count) + std::string(count, 'x'));
  };
  EXPECT_EQ(first(archive(limits::kSparseSegments)).entry.segments.size(), limits::kSparseSegments);
  expect_refused(archive(limits::kSparseSegments + 1), {Code::resource_exhausted, "65536"});
}

TEST(Sparse, RefusesMalformedMaps) {
  for (const std::string_view map :
       {"1", "1,", "1,2,", "1,2,3", ",1,2", "1,,2", "a,1", "1 2", "-1,2"})
    expect_refused(with_pax(version_0_1(std::string(map), 1), "xx"), {.what = "GNU.sparse.map"});
  expect_refused(with_pax(version_0_1("1,2", 2), "xx"), {.what = "1 segments, not 2"});
  for (const std::string_view map :
       {"", "x\n", "\n", "1\n\n", "1\n1\n-1\n", "1\r\n1\n1\n", "1\n1 \n1\n"})
    expect_refused(with_pax(version_1_0(), padded(std::string(map) + " ") + "x"),
                   {.what = "the map of a sparse file"});
  // The map must end within the data.
  expect_refused(with_pax(version_1_0(), "1\n1\n"), {.what = "longer than its data"});
  expect_refused(with_pax(version_1_0(), std::string(511, '0')), {.what = "longer than its data"});
  expect_refused(with_pax(version_1_0(), ""), {.what = "longer than its data"});
  expect_refused(with_pax(version_1_0(), std::string(1024, '0')), {.what = "longer than its data"});
}

TEST(Sparse, RefusesIncompleteOrMixedForms) {
  const auto refused = [](const std::string& records, const std::string& what) {
    expect_refused(with_pax(records, padded("0\n")), {.what = what});
  };
  refused(record("GNU.sparse.major", "2") + record("GNU.sparse.minor", "0"), "version 2.0");
  refused(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "1"), "version 1.1");
  refused(record("GNU.sparse.minor", "2"), "version 0.2");
  refused(record("GNU.sparse.major", "1"), "without a size");
  refused(record("GNU.sparse.name", "x"), "without a size");
  refused(record("GNU.sparse.size", "5"), "without a number of segments");
  refused(record("GNU.sparse.size", "5") + record("GNU.sparse.numblocks", "1"), "0 segments");
  refused(record("GNU.sparse.numbytes", "5"), "no offset");
  refused(record("GNU.sparse.offset", "5") + record("GNU.sparse.offset", "6"), "in a row");
  refused(record("GNU.sparse.size", "5") + record("GNU.sparse.offset", "5"), "two versions");
  refused(version_1_0() + record("GNU.sparse.offset", "0") + record("GNU.sparse.numbytes", "1"),
          "two versions");
  expect_refused(pax(version_1_0()) + block({.type = '5'}), {.what = "sparse, but no file"});
  expect_refused(pax(version_1_0()) + old_gnu({.segments = {}}), {.what = "two formats"});
  expect_refused(block({.name = "d/", .type = 'S', .magic = std::string(kOldGnu)}),
                 {.what = "sparse, but no file"});
}

}  // namespace
}  // namespace veneer::tar::test
