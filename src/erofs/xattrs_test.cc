#include "erofs/xattrs.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/limits.h"
#include "erofs/format.h"

namespace veneer::erofs {
namespace {

using Set = std::vector<Xattr>;

Code code_of(XattrTable& table, const Set& set) {
  try {
    table.intern(set);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "accepted";
  return Code::io;
}

std::string inline_bytes(const XattrTable& table, XattrSetId id) {
  std::string bytes;
  table.append_inline(id, bytes);
  EXPECT_EQ(bytes.size(), table.inline_size(id));
  return bytes;
}

std::string shared_bytes(const XattrTable& table) {
  std::string bytes;
  table.for_each_shared([&](std::string_view part) { bytes += part; });
  EXPECT_EQ(bytes.size(), table.shared_size());
  return bytes;
}

TEST(Xattrs, EqualSetsAreOneInAnyOrder) {
  XattrTable table;
  EXPECT_EQ(table.intern({}), kNoXattrs);
  const XattrSetId ab = table.intern(Set{{"user.a", "1"}, {"user.b", "2"}});
  EXPECT_EQ(table.intern(Set{{"user.b", "2"}, {"user.a", "1"}}), ab);
  EXPECT_NE(table.intern(Set{{"user.a", "1"}, {"user.b", "3"}}), ab);
  EXPECT_NE(table.intern(Set{{"user.a", "1"}}), ab);
}

TEST(Xattrs, OneUseIsStoredBesideTheInode) {
  using std::string_literals::operator""s;
  XattrTable table;
  const XattrSetId id = table.intern(Set{{"trusted.x", "abc"}});
  table.place(std::vector<uint32_t>{0, 1});
  EXPECT_EQ(inline_bytes(table, id), "\0\0\0\0\0\0\0\0\0\0\0\0"s + "\1\4\3\0xabc"s);
  EXPECT_EQ(table.shared_size(), 0U);
}

TEST(Xattrs, RepeatedOnesAreStoredOnceAndReferredTo) {
  using std::string_literals::operator""s;
  XattrTable table;
  table.intern(Set{{"user.unused", "with a value that is not short"}});
  const XattrSetId id = table.intern(Set{{"security.c", "value"}, {"user.aa", ""}});
  table.place(std::vector<uint32_t>{9, 0, 100});
  EXPECT_EQ(shared_bytes(table), "\1\6\5\0cvalue\0\0"s + "\2\1\0\0aa\0\0"s);
  EXPECT_EQ(inline_bytes(table, id), "\0\0\0\0\2\0\0\0\0\0\0\0"s + "\0\0\0\0"s + "\3\0\0\0"s);
}

TEST(Xattrs, LargeOnesAreSharedEvenByOne) {
  XattrTable table;
  const XattrSetId id = table.intern(Set{{"user.large", std::string(kMaxXattrValue, 'x')}});
  table.place(std::vector<uint32_t>{0, 1});
  EXPECT_EQ(table.inline_size(id), sizeof(XattrHeader) + 4);
  EXPECT_EQ(shared_bytes(table).size(), 4 + 5 + kMaxXattrValue);
}

TEST(Xattrs, NoSetSharesMoreThan255AndTheLargeOnesComeFirst) {
  XattrTable table;
  Set set;
  for (int i = 0; i < 300; ++i)
    set.push_back({fmt::format("user.{:03}", i), std::string(i < 290 ? 8 : 600, 'x')});
  const XattrSetId id = table.intern(set);
  table.place(std::vector<uint32_t>{0, 50});
  const std::string bytes = inline_bytes(table, id);
  EXPECT_EQ(static_cast<uint8_t>(bytes[4]), 255);
  EXPECT_EQ(bytes.size(), sizeof(XattrHeader) + 255 * 4 + 45 * (4 + 3 + 8 + 1));
}

TEST(Xattrs, AclsAreIndexesWithoutAName) {
  using std::string_literals::operator""s;
  XattrTable table;
  const XattrSetId access = table.intern(Set{{"system.posix_acl_access", "1234"}});
  const XattrSetId both = table.intern(Set{{"system.posix_acl_default", "5678"}});
  table.place(std::vector<uint32_t>{0, 1, 1});
  EXPECT_EQ(inline_bytes(table, access).substr(12), "\0\2\4\0001234"s);
  EXPECT_EQ(inline_bytes(table, both).substr(12), "\0\3\4\0005678"s);
}

TEST(Xattrs, OtherNamesAreRefused) {
  using std::string_literals::operator""s;
  XattrTable table;
  for (const auto& name : {""s, "user"s, "user."s, "trusted."s, "security."s, "system.x"s,
                           "system.posix_acl_accessx"s, "lustre.x"s, "user.a\0b"s})
    EXPECT_EQ(code_of(table, {{name, "v"}}), Code::invalid_argument) << name;
  EXPECT_EQ(code_of(table, {{"user.a", "1"}, {"user.b", ""}, {"user.a", "2"}}),
            Code::invalid_argument);
}

TEST(Xattrs, Limits) {
  XattrTable table;
  const std::string longest = "user." + std::string(limits::kXattrNameBytes - 5, 'n');
  table.intern(Set{{longest, ""}});
  EXPECT_EQ(code_of(table, {{longest + "n", ""}}), Code::resource_exhausted);

  table.intern(Set{{"user.v", std::string(kMaxXattrValue, 'v')}});
  EXPECT_EQ(code_of(table, {{"user.v", std::string(limits::kXattrValueBytes, 'v')}}),
            Code::unsupported);
  EXPECT_EQ(code_of(table, {{"user.v", std::string(limits::kXattrValueBytes + 1, 'v')}}),
            Code::resource_exhausted);

  Set names;
  for (size_t i = 0; i < limits::kXattrListBytes / 16; ++i)
    names.push_back({fmt::format("user.{:010}", i), ""});
  table.intern(names);
  names.back().name += "x";
  EXPECT_EQ(code_of(table, names), Code::resource_exhausted);
}

TEST(Xattrs, ASetThatDoesNotFitIsUnsupported) {
  XattrTable table;
  Set set;
  // Each takes 512 bytes, which is not large enough to be shared by one.
  for (int i = 0; i < 511; ++i)
    set.push_back({fmt::format("user.{:04}", i), std::string(504, 'x')});
  // Header and count leave 504 bytes.
  set.push_back({"user.last", std::string(496, 'x')});
  const XattrSetId id = table.intern(set);
  table.place(std::vector<uint32_t>{0, 1});
  EXPECT_EQ(table.inline_size(id), kMaxXattrBytes);
  set.back().value += "x";
  EXPECT_EQ(code_of(table, set), Code::unsupported);
}

}  // namespace
}  // namespace veneer::erofs
