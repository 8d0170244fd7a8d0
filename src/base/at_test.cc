#include "base/at.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>

#include "base/error.h"

namespace veneer {
namespace {

class At : public testing::Test {
 protected:
  At() {
    std::string name = "/var/tmp/veneer-at-XXXXXX";
    path_ = ::mkdtemp(name.data());
    dir_ = open_root(path_);
  }
  ~At() override {
    remove_children(dir_.get());
    (void)::rmdir(path_.c_str());
  }
  int dir() const { return dir_.get(); }

 private:
  std::string path_;
  UniqueFd dir_;
};

TEST_F(At, FilesAndAbsence) {
  write_file_at(dir(), "f", "hello", 0600);
  EXPECT_EQ(read_file_at(dir(), "f", 5), "hello");
  EXPECT_THROW(read_file_at(dir(), "f", 4), Error);
  EXPECT_THROW(write_file_at(dir(), "f", "again", 0600), SysError);
  EXPECT_FALSE(maybe_read_file_at(dir(), "absent", 5));
  EXPECT_FALSE(maybe_stat_at(dir(), "f/below"));
  EXPECT_FALSE(maybe_open_at(dir(), "f/below", O_RDONLY));
}

TEST_F(At, TheModeOfADirectoryIsExact) {
  const mode_t old = ::umask(077);
  make_dir_at(dir(), "d", 01777);
  ::umask(old);
  EXPECT_EQ(stat_at(dir(), "d").st_mode & 07777u, 01777u);
}

TEST_F(At, LinksAreNotFollowed) {
  write_file_at(dir(), "f", "x", 0644);
  make_symlink_at("f", dir(), "link");
  EXPECT_THROW(open_at(dir(), "link", O_RDONLY), SysError);
  EXPECT_THROW(chmod_at(dir(), "link", 0600), SysError);
  EXPECT_EQ(read_link_at(dir(), "link"), "f");
  remove_tree_at(dir(), "link");
  EXPECT_TRUE(exists_at(dir(), "f"));
}

TEST_F(At, ResolutionStaysInTheRoot) {
  make_dir_at(dir(), "d", 0755);
  write_file_at(dir(), "d/f", "inside", 0644);
  make_symlink_at("/d", dir(), "absolute");
  make_symlink_at("../../../../d/f", dir(), "up");
  make_symlink_at("/etc/passwd", dir(), "escape");
  EXPECT_TRUE(maybe_resolve_in_root(dir(), "absolute/f", O_RDONLY));
  EXPECT_TRUE(maybe_resolve_in_root(dir(), "up", O_RDONLY));
  EXPECT_FALSE(maybe_resolve_in_root(dir(), "escape", O_RDONLY));
  EXPECT_FALSE(maybe_resolve_beneath(dir(), "absolute/f", O_RDONLY));
  EXPECT_TRUE(maybe_resolve_beneath(dir(), "d/f", O_RDONLY));
}

TEST_F(At, RenameNeverReplaces) {
  make_dir_at(dir(), "a", 0755);
  make_dir_at(dir(), "b", 0755);
  EXPECT_THROW(rename_at(dir(), "a", dir(), "b"), SysError);
  write_file_at(dir(), "b/x", "", 0644);
  exchange_at(dir(), "a", dir(), "b");
  EXPECT_TRUE(exists_at(dir(), "a/x"));
}

TEST_F(At, CopyKeepsHoles) {
  const UniqueFd from = open_at(dir(), "from", O_RDWR | O_CREAT | O_EXCL, 0644);
  write_all_at(from.get(), std::as_bytes(std::span(std::string_view("start"))), 0);
  write_all_at(from.get(), std::as_bytes(std::span(std::string_view("end"))), 10 << 20);
  set_size(from.get(), 20 << 20);
  const UniqueFd to = open_at(dir(), "to", O_RDWR | O_CREAT | O_EXCL, 0644);
  copy_data(from.get(), to.get());
  EXPECT_EQ(stat_fd(to.get()).st_size, 20 << 20);
  EXPECT_LT(stat_fd(to.get()).st_blocks, 1000);
  std::array<std::byte, 3> end;
  EXPECT_EQ(read_some_at(to.get(), end, 10 << 20), 3u);
  EXPECT_EQ(std::to_integer<char>(end[0]), 'e');
}

TEST_F(At, Xattrs) {
  write_file_at(dir(), "f", "", 0644);
  EXPECT_TRUE(read_xattrs_at(dir(), "f").empty());
  const std::string big(1000, 'v');
  set_xattr_at(dir(), "f", "user.b", big);
  set_xattr_at(dir(), "f", "user.a", std::string_view("\0x", 2));
  const std::vector<Xattr> expected{{"user.a", std::string("\0x", 2)}, {"user.b", big}};
  EXPECT_EQ(read_xattrs_at(dir(), "f"), expected);
  remove_xattr_at(dir(), "f", "user.a");
  EXPECT_FALSE(maybe_xattr_at(dir(), "f", "user.a"));
}

TEST_F(At, RemoveTreeAtAnyDepth) {
  make_dir_at(dir(), "tree", 0755);
  UniqueFd at = open_dir_at(dir(), "tree");
  for (int i = 0; i < 3000; ++i) {
    make_dir_at(at.get(), "d", 0755);
    write_file_at(at.get(), "f", "", 0644);
    at = open_dir_at(at.get(), "d");
  }
  EXPECT_TRUE(remove_tree_at(dir(), "tree"));
  EXPECT_FALSE(remove_tree_at(dir(), "tree"));
  EXPECT_TRUE(list_dir(dir()).empty());
}

TEST_F(At, RemoveTreeOfManyFiles) {
  make_dir_at(dir(), "tree", 0755);
  const UniqueFd tree = open_dir_at(dir(), "tree");
  for (int i = 0; i < 5000; ++i)
    write_file_at(tree.get(), RelPath::parse_name(fmt::format("file-{}", i), "name"), "", 0644);
  remove_tree_at(dir(), "tree");
  EXPECT_FALSE(exists_at(dir(), "tree"));
}

}  // namespace
}  // namespace veneer
