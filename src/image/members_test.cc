#include "image/members.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "image/tar_members.h"
#include "image/test_image.h"

namespace veneer {
namespace {

using tar::EntryType;
using test::expect_error;
using test::File;
using test::Files;

class MembersTest : public testing::Test {
 protected:
  TarMembers indexed(const Files& files) {
    const std::string path = scratch_.write_file(test::tar_of(files));
    return TarMembers::of_file(open_root(path, O_RDONLY));
  }
  UniqueFd unnamed() { return open_at(scratch_.dir(), ".", O_TMPFILE | O_RDWR, 0600); }

  test::Scratch scratch_;
};

TEST(MemberName, IsNormalised) {
  EXPECT_EQ(maybe_member_name("a/b"), "a/b");
  EXPECT_EQ(maybe_member_name("./a//b/"), "a/b");
  EXPECT_EQ(maybe_member_name("a/../b"), "b");
  EXPECT_FALSE(maybe_member_name("/a"));
  EXPECT_FALSE(maybe_member_name("../a"));
  EXPECT_FALSE(maybe_member_name("a/../../a"));
  EXPECT_FALSE(maybe_member_name(std::string_view("a\0b", 3)));
}

// Contents beyond a chunk are not read while indexing; the next header must still be found.
TEST_F(MembersTest, OfATarAreReadInPlace) {
  const std::string big(3 * kChunkBytes + 17, 'b');
  const TarMembers members =
      indexed({{"one", "1"}, {"./big", big}, {"d/two", "22"}, {"empty", ""}});
  EXPECT_EQ(members.read("one"), "1");
  EXPECT_EQ(members.read("big"), big);
  EXPECT_EQ(members.read("d/two"), "22");
  EXPECT_EQ(members.read("empty"), "");
  EXPECT_EQ(members.open("big")->size_bytes(), big.size());
  EXPECT_EQ(members.maybe_open("absent", Links::refuse), nullptr);
  expect_error(Code::corrupt, {"absent", "missing"}, [&] { members.read("absent"); });
}

TEST_F(MembersTest, OfAStreamAreSpooled) {
  const std::string big(3 * kChunkBytes + 17, 'b');
  const std::string tar = test::tar_of({{"big", big}, {"a", "x"}});
  MemorySource source(std::as_bytes(std::span(tar)), 1000);
  const TarMembers members = TarMembers::of_stream(source, unnamed());
  EXPECT_EQ(members.read("big"), big);
  EXPECT_EQ(members.read("a"), "x");
}

TEST_F(MembersTest, TheLastOfDuplicatesCounts) {
  EXPECT_EQ(indexed({{"a", "old"}, {"./a", "new"}}).read("a"), "new");
}

TEST_F(MembersTest, NamesThatLeadOutAreAbsent) {
  const TarMembers members = indexed({{"../a", "x"}, {"/b", "x"}, {"c", "x"}});
  EXPECT_EQ(members.maybe_open("a", Links::refuse), nullptr);
  EXPECT_EQ(members.maybe_open("b", Links::refuse), nullptr);
  EXPECT_NE(members.maybe_open("c", Links::refuse), nullptr);
}

TEST_F(MembersTest, LinksAreFollowedOnceAndInside) {
  const TarMembers members = indexed({
      {"x/layer.tar", "layer"},
      {"y/layer.tar", "", EntryType::symlink, "../x/layer.tar"},
      {"hard", "", EntryType::hard_link, "x/layer.tar"},
      {"twice", "", EntryType::symlink, "y/layer.tar"},
      {"self", "", EntryType::symlink, "self"},
      {"dangling", "", EntryType::symlink, "nowhere"},
      {"climbing", "", EntryType::symlink, "../x/layer.tar"},
      {"absolute", "", EntryType::symlink, "/x/layer.tar"},
      {"hard-out", "", EntryType::hard_link, "../x/layer.tar"},
      {"fifo", "", EntryType::fifo},
      {"to-fifo", "", EntryType::symlink, "fifo"},
  });
  for (const char* name : {"y/layer.tar", "hard"}) {
    const auto member = members.open(name, Links::follow);
    EXPECT_EQ(read_all(*member, 100, name), "layer");
    expect_error(Code::corrupt, {name, "link"}, [&] { members.open(name); });
  }
  for (const char* name : {"climbing", "absolute", "hard-out"})
    expect_error(Code::corrupt, {name, "outside"}, [&] { members.open(name, Links::follow); });
  for (const char* name : {"twice", "self", "fifo", "to-fifo"})
    expect_error(Code::corrupt, {"not a plain file"}, [&] { members.open(name, Links::follow); });
  expect_error(Code::corrupt, {"dangling", "nowhere"},
               [&] { members.open("dangling", Links::follow); });
}

// Its bytes are not in one place; the old GNU form has the map and the real size in the header.
TEST_F(MembersTest, SparseFilesAreRefused) {
  std::string tar = test::tar_of({{"holes", std::string(512, 'x')}, {"after", "y"}});
  tar[156] = 'S';
  tar.replace(257, 8, "ustar  \0", 8);
  tar.replace(386, 24, "00000001000\00000000001000\0", 24);
  tar.replace(483, 12, "00000002000\0", 12);
  tar.replace(148, 8, 8, ' ');
  unsigned sum = 0;
  for (const char c : tar.substr(0, 512)) sum += static_cast<uint8_t>(c);
  tar.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
  const TarMembers members = TarMembers::of_file(open_root(scratch_.write_file(tar), O_RDONLY));
  expect_error(Code::corrupt, {"holes", "not a plain file"}, [&] { members.open("holes"); });
  EXPECT_EQ(members.read("after"), "y");
}

TEST_F(MembersTest, TheNumberIsLimited) {
  Files files;
  for (size_t i = 0; i <= limits::kArchiveMembers; ++i) files.push_back({std::to_string(i), ""});
  const std::string tar = test::tar_of(files);
  const auto index = [&](std::string_view some) {
    return TarMembers::of_file(open_root(scratch_.write_file(some), O_RDONLY));
  };
  // An empty file is one block, and a tar may end at any of them.
  EXPECT_NO_THROW(index(std::string_view(tar).substr(0, 512 * limits::kArchiveMembers)));
  expect_error(Code::resource_exhausted, {"65536 entries"}, [&] { index(tar); });
}

TEST_F(MembersTest, DocumentsAreLimited) {
  const TarMembers members = indexed({{"fits", std::string(limits::kJsonBytes, ' ')},
                                      {"larger", std::string(limits::kJsonBytes + 1, ' ')}});
  EXPECT_EQ(members.read("fits").size(), limits::kJsonBytes);
  expect_error(Code::resource_exhausted, {"larger"}, [&] { members.read("larger"); });
}

TEST_F(MembersTest, AFileThatShrinksIsNamed) {
  const std::string path = scratch_.write_file(test::tar_of({{"a", std::string(4096, 'x')}}));
  UniqueFd file = open_root(path, O_RDWR);
  const TarMembers members = TarMembers::of_file(dup_fd(file.get()));
  set_size(file.get(), 1024);
  expect_error(Code::corrupt, {"a: "}, [&] { members.read("a"); });
}

TEST_F(MembersTest, OfADirectoryAreFilesWithoutLinks) {
  const std::string path = scratch_.write_directory({
      {"plain", "x"},
      {"blobs/sha256/b", "y"},
      {"link", "", EntryType::symlink, "plain"},
      {"out", "", EntryType::symlink, "/etc/passwd"},
      {"blobs/up", "", EntryType::symlink, ".."},
  });
  ASSERT_EQ(::mkfifo((path + "/fifo").c_str(), 0600), 0);
  const DirectoryMembers members(open_root(path));
  EXPECT_EQ(members.read("plain"), "x");
  EXPECT_EQ(members.read("blobs/sha256/b"), "y");
  for (const char* name : {"link", "out", "blobs/up/plain", "absent", "plain/below"})
    EXPECT_EQ(members.maybe_open(name, Links::follow), nullptr) << name;
  for (const char* name : {"fifo", "blobs"})
    expect_error(Code::corrupt, {name, "not a regular file"}, [&] { members.open(name); });
}

}  // namespace
}  // namespace veneer
