#include <gtest/gtest.h>

#include "base/limits.h"
#include "tar/test_archive.h"

namespace veneer::tar::test {
namespace {

using std::string_literals::operator""s;

Member with(const std::string& records, const Raw& raw = {}) {
  return only(pax(records) + block(raw) + kEnd);
}

void expect_bad(const std::string& records, std::string_view what = "PAX") {
  expect_refused(pax(records) + block({}), {.what = std::string(what)});
}

TEST(Pax, OverridesTheHeader) {
  const Member file =
      with(record("path", "dir/name") + record("uid", "4294967295") + record("gid", "70000") +
           record("mtime", "-1.25") + record("atime", "5") + record("comment", "") +
           record("hdrcharset", "BINARY") + record("linkpath", "unused"));
  EXPECT_EQ(file.entry.path, "dir/name");
  EXPECT_EQ(file.entry.link_target, "");
  EXPECT_EQ(file.entry.uid, 0xffffffff);
  EXPECT_EQ(file.entry.gid, 70000u);
  EXPECT_EQ(file.entry.modified, (Timestamp{-2, 750'000'000}));
  EXPECT_EQ(file.entry.header_offset, 0u);
  EXPECT_EQ(file.entry.data_offset, 1536u);
  EXPECT_EQ(with(record("linkpath", "a b\nc"), {.type = '2'}).entry.link_target, "a b\nc");
}

TEST(Pax, HoldsForOneEntry) {
  const Listing listing =
      list(pax(record("path", "a") + record("SCHILY.xattr.user.x", "1") + record("uid", "7")) +
           block({}) + block({}));
  ASSERT_EQ(listing.members.size(), 2u);
  EXPECT_EQ(listing.members[0].entry.path, "a");
  EXPECT_EQ(listing.members[1].entry.path, "f");
  EXPECT_EQ(listing.members[1].entry.uid, 0u);
  EXPECT_TRUE(listing.members[1].entry.xattrs.empty());
  EXPECT_EQ(listing.members[1].entry.header_offset, 1536u);
}

TEST(Pax, TheLastOfARecordCountsAndAnEmptyOneGivesTheHeadersValue) {
  EXPECT_EQ(with(record("path", "a") + record("path", "b")).entry.path, "b");
  const Member file = with(record("path", "a") + record("path", "") + record("uid", "1") +
                               record("uid", "") + record("gid", "") + record("mtime", "1") +
                               record("mtime", "") + record("size", "1000") + record("size", ""),
                           {.uid = octal(5, 7), .gid = octal(6, 7), .modified = octal(7, 11)});
  EXPECT_EQ(file.entry.path, "f");
  EXPECT_EQ(file.entry.uid, 5u);
  EXPECT_EQ(file.entry.gid, 6u);
  EXPECT_EQ(file.entry.modified, (Timestamp{7, 0}));
  EXPECT_EQ(file.entry.size, 0u);
}

TEST(Pax, RefusesRecordsThatAreNotExact) {
  expect_bad("99 path=x\n");
  expect_bad("5 path=name\n");
  expect_bad("0 path=x\n");
  expect_bad("-9 path=x\n");
  expect_bad("+9 path=x\n");
  expect_bad(" 9 path=x\n");
  expect_bad("18446744073709551617 path=x\n");
  expect_bad("x path=x\n");
  expect_bad("9path=xyz\n");
  expect_bad("9 pathxy\n");
  expect_bad("9 path=xy");
  expect_bad("5 =x\n");
  expect_bad("2 ");
  expect_bad("1");
  expect_bad("3\n\n");
  expect_bad(record("path", "x") + '\0');
  expect_bad(record("path", "x") + "\n");
  // A newline in a value is no end.
  EXPECT_EQ(with(record("path", "x\n9 path=y")).entry.path, "x\n9 path=y");
}

TEST(Pax, RefusesBadValues) {
  expect_bad(record("path", "a\0b"s));
  expect_bad(record("linkpath", "a\0"s));
  for (const std::string_view key : {"size", "uid", "gid"})
    for (const std::string_view value : {"-1", "x", "0x10", "12x", " 1", "99999999999999999999"})
      expect_bad(record(key, value), key);
  expect_bad(record("uid", "4294967296"), "uid");
  expect_bad(record("gid", "4294967296"), "gid");
  expect_bad(record("mtime", "now"), "time");
  // Also when a later one is right.
  expect_bad(record("uid", "x") + record("uid", "1"), "uid");
  expect_refused(block({.uid = base256(0x100000000, 8)}), {.what = "uid"});
  expect_refused(block({.gid = base256(-1, 8)}), {.what = "gid"});
  expect_refused(block({.size = base256(-1, 12)}), {.what = "size"});
  expect_refused(block({.size = "0000000009x"}), {.what = "size"});
  expect_refused(block({.mode = "rw"}), {.what = "mode"});
  EXPECT_EQ(only(block({.uid = base256(0xffffffff, 8)})).entry.uid, 0xffffffff);
  EXPECT_EQ(only(block({.modified = base256(-5, 12)})).entry.modified, (Timestamp{-5, 0}));
}

TEST(Pax, GivesXattrsInOrderTheLastOfEachName) {
  const Member file = with(record("SCHILY.xattr.user.b", "1") + record("SCHILY.xattr.user.a", "2") +
                           record("SCHILY.xattr.user.b", "3\0\n="s) +
                           record("SCHILY.xattr.security.capability", "") +
                           record("LIBARCHIVE.xattr.user.z", "YQ"));
  EXPECT_EQ(
      file.entry.xattrs,
      (std::vector<Xattr>{{"user.a", "2"}, {"user.b", "3\0\n="s}, {"security.capability", ""}}));
}

TEST(Pax, LimitsXattrs) {
  const auto xattr = [](size_t name, size_t value) {
    return record("SCHILY.xattr." + std::string(name, 'n'), std::string(value, 'v'));
  };
  EXPECT_EQ(with(xattr(limits::kXattrNameBytes, 0)).entry.xattrs.size(), 1u);
  EXPECT_EQ(with(xattr(1, limits::kXattrValueBytes)).entry.xattrs.at(0).value.size(),
            limits::kXattrValueBytes);
  expect_refused(pax(xattr(limits::kXattrNameBytes + 1, 0)) + block({}),
                 {Code::resource_exhausted, "255"});
  expect_refused(pax(xattr(1, limits::kXattrValueBytes + 1)) + block({}),
                 {Code::resource_exhausted, "65536"});
  expect_bad(xattr(0, 1), "no name");
  expect_bad(record("SCHILY.xattr.a" + std::string(1, '\0'), "x"), "NUL");
}

TEST(Pax, ManyXattrsOfOneNameAreNoWork) {
  std::string records;
  for (int i = 0; i < 40'000; ++i) records += record("SCHILY.xattr.a" + std::to_string(i % 9), "");
  EXPECT_EQ(with(records).entry.xattrs.size(), 9u);
}

TEST(Pax, LimitsTheHeader) {
  const auto comment = [](uint64_t size) {
    std::string text = std::to_string(size) + " comment=";
    text.resize(size - 1, 'c');
    return text + "\n";
  };
  for (const char type : {'x', 'g'}) {
    EXPECT_EQ(list(extended(type, comment(limits::kExtendedHeaderBytes)) + block({})).error, "");
    expect_refused(extended(type, comment(limits::kExtendedHeaderBytes + 1)) + block({}),
                   {Code::resource_exhausted, "1048576"});
  }
  for (const char type : {'x', 'g', 'L', 'K'})
    expect_refused(block({.type = type, .size = octal(1 << 30, 11)}),
                   {Code::resource_exhausted, "1048576"});
  expect_refused(block({.type = 'x', .size = base256(int64_t{1} << 62, 12)}),
                 {Code::resource_exhausted, "1048576"});
}

TEST(Pax, NeedsAnEntry) {
  expect_refused(pax(record("path", "x")), {.what = "ends after an extended header"});
  expect_refused(pax(record("path", "x")) + kEnd, {.what = "ends after an extended header"});
  expect_refused(extended('L', "x") + kEnd, {.what = "ends after an extended header"});
  EXPECT_EQ(list(extended('g', record("path", "x")) + kEnd).error, "");
  expect_refused(pax(record("path", "x")) + pax(record("path", "y")) + block({}),
                 {.what = "two extended headers"});
}

// --- global headers --------------------------------------------------------------------------

TEST(PaxGlobal, HoldsUntilItIsReplaced) {
  const std::string archive =
      extended('g', record("uid", "5") + record("mtime", "9") + record("comment", "0123456")) +
      block({.name = "a"}) + pax(record("uid", "6") + record("gid", "7")) + block({.name = "b"}) +
      pax(record("uid", "")) + block({.name = "c", .uid = octal(1, 7)}) +
      extended('g', record("uid", "8") + record("SCHILY.xattr.user.x", "y")) +
      block({.name = "d"}) + extended('g', record("uid", "")) + block({.name = "e"});
  const Listing listing = list(archive);
  ASSERT_EQ(listing.error, "");
  std::string seen;
  for (const Member& one : listing.members)
    seen += fmt::format("{}:{}:{}:{}:{} ", one.entry.path, one.entry.uid, one.entry.gid,
                        one.entry.modified.seconds, one.entry.xattrs.size());
  EXPECT_EQ(seen, "a:5:0:9:0 b:6:7:9:0 c:1:0:9:0 d:8:0:9:1 e:0:0:9:1 ");
  EXPECT_EQ(listing.members[0].entry.header_offset, 1024u);
  EXPECT_EQ(listing.members[3].entry.header_offset, 1024u + 512 + 1536 + 1536 + 1024);
}

TEST(PaxGlobal, IsBelowLongNames) {
  EXPECT_EQ(
      only(extended('g', record("path", "global")) + extended('L', "long") + block({})).entry.path,
      "long");
  EXPECT_EQ(only(extended('g', record("path", "global")) + block({})).entry.path, "global");
}

TEST(PaxGlobal, IsBounded) {
  const auto xattr = [](size_t size) {
    return extended('g', record("SCHILY.xattr.x", std::string(size, 'v')));
  };
  const size_t most = limits::kGlobalHeaderBytes - std::string_view("SCHILY.xattr.x").size();
  EXPECT_EQ(list(xattr(most)).error, "");
  expect_refused(xattr(most + 1), {Code::resource_exhausted, "65536"});
  // A record that replaces another takes its place.
  EXPECT_EQ(list(xattr(most) + xattr(1) + xattr(most)).error, "");
  expect_refused(xattr(most) + extended('g', record("uid", "1")),
                 {Code::resource_exhausted, "65536"});
}

TEST(PaxGlobal, RefusesBadRecordsAndSparseFiles) {
  expect_refused(extended('g', "9 path=x") + kEnd, {.what = "PAX record"});
  expect_refused(extended('g', record("uid", "x")) + kEnd, {.what = "uid"});
  expect_refused(extended('g', record("GNU.sparse.major", "1")) + kEnd, {.what = "GNU.sparse"});
}

// --- GNU long names --------------------------------------------------------------------------

TEST(GnuLong, NamesStopAtANul) {
  const std::string path(300, 'p');
  const std::string in_parts = path.substr(0, 150) + "/" + path.substr(150);
  EXPECT_EQ(only(extended('L', in_parts + '\0') + block({})).entry.path, in_parts);
  EXPECT_EQ(only(extended('L', "name\0junk"s) + block({})).entry.path, "name");
  EXPECT_EQ(only(extended('L', "name") + block({})).entry.path, "name");
  EXPECT_EQ(only(extended('L', "\0"s) + block({})).entry.path, "f");
  const Member link = only(extended('K', in_parts + '\0') + extended('L', "name\0"s) +
                           block({.type = '2', .link_target = "short"}));
  EXPECT_EQ(link.entry.link_target, in_parts);
  EXPECT_EQ(link.entry.path, "name");
  EXPECT_EQ(link.entry.header_offset, 0u);
}

TEST(GnuLong, DoNotOutliveTheirEntry) {
  const Listing listing = list(extended('L', "long") + extended('K', "to") + block({.type = '2'}) +
                               block({.type = '2', .link_target = "t"}));
  ASSERT_EQ(listing.members.size(), 2u);
  EXPECT_EQ(listing.members[1].entry.path, "f");
  EXPECT_EQ(listing.members[1].entry.link_target, "t");
}

TEST(GnuLong, MustAgreeWithPax) {
  EXPECT_EQ(only(extended('L', "x") + pax(record("path", "x")) + block({})).entry.path, "x");
  EXPECT_EQ(only(pax(record("uid", "1")) + extended('L', "x") + block({})).entry.path, "x");
  expect_refused(extended('L', "x") + pax(record("path", "y")) + block({}), {.what = "disagree"});
  expect_refused(pax(record("path", "")) + extended('L', "x") + block({}), {.what = "disagree"});
  expect_refused(extended('K', "x") + pax(record("linkpath", "y")) + block({.type = '2'}),
                 {.what = "disagree"});
  expect_refused(extended('L', "x") + extended('L', "x") + block({}),
                 {.what = "two extended headers"});
}

// --- limits of names -------------------------------------------------------------------------

std::string of_components(size_t count, size_t size) {
  std::string path;
  for (size_t i = 0; i < count; ++i) path += std::string(size, 'c') + "/";
  return path;
}

TEST(PathLimits, Length) {
  const std::string most =
      of_components(limits::kPathBytes / 65 + 1, 64).substr(0, limits::kPathBytes - 1) + "x";
  ASSERT_EQ(most.size(), limits::kPathBytes);
  for (const char type : {'x', 'L'}) {
    const auto named = [&](const std::string& path) {
      return extended(type, type == 'x' ? record("path", path) : path) + block({});
    };
    EXPECT_EQ(only(named(most)).entry.path, most);
    expect_refused(named(most + "x"), {Code::resource_exhausted, "4095"});
  }
  const auto linked = [](char type, const std::string& target) {
    return pax(record("linkpath", target)) + block({.type = type});
  };
  EXPECT_EQ(only(linked('1', most)).entry.link_target, most);
  expect_refused(linked('1', most + "x"), {Code::resource_exhausted, "4095"});
  const std::string target(limits::kLinkTargetBytes, 't');
  EXPECT_EQ(only(linked('2', target)).entry.link_target, target);
  expect_refused(linked('2', target + "t"), {Code::resource_exhausted, "4095"});
}

TEST(PathLimits, Components) {
  const std::string most(limits::kNameBytes, 'n');
  for (const std::string& before : {std::string(), std::string("dir/")}) {
    for (const std::string& after : {std::string(), std::string("/"), std::string("/x")}) {
      EXPECT_EQ(only(extended('L', before + most + after) + block({})).entry.path,
                before + most + after);
      expect_refused(extended('L', before + most + "n" + after) + block({}),
                     {Code::resource_exhausted, "255"});
      expect_refused(extended('K', before + most + "n" + after) + block({.type = '1'}),
                     {Code::resource_exhausted, "255"});
    }
  }
}

TEST(PathLimits, Depth) {
  const std::string most = "./" + of_components(limits::kPathDepth, 1) + "/.";
  EXPECT_EQ(only(extended('L', most) + block({})).entry.path, most);
  expect_refused(extended('L', most + "/x") + block({}), {Code::resource_exhausted, "1024"});
}

}  // namespace
}  // namespace veneer::tar::test
