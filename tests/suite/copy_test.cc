#include "layer/copy.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include "base/error.h"
#include "base/limits.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::describe_tree;

// One of everything.
void fill(int dir) {
  make_dir_at(dir, "d", 02750);
  make_dir_at(dir, "d/sticky", 01777);
  write_file_at(dir, "d/file", "content", 0640);
  chown_at(dir, "d/file", 1000, 4294967294U);
  set_xattr_at(dir, "d/file", "user.note", std::string_view("a\0b", 3));
  set_xattr_at(dir, "d", "trusted.overlay.opaque", "y");
  set_xattr_at(dir, "d", "system.posix_acl_default",
               std::string_view("\2\0\0\0\1\0\7\0\xff\xff\xff\xff\4\0\5\0\xff\xff\xff\xff"
                                "\x20\0\5\0\xff\xff\xff\xff",
                                28));
  write_file_at(dir, "suid", "#!", 0755);
  chmod_at(dir, "suid", 06755);
  link_at(dir, "d/file", dir, "second-name");
  make_symlink_at("/nowhere/at/all", dir, "symlink");
  chown_at(dir, "symlink", 7, 8);
  link_at(dir, "symlink", dir, "symlink-too");
  make_node_at(dir, "fifo", S_IFIFO | 0600, 0);
  make_node_at(dir, "socket", S_IFSOCK | 0600, 0);
  make_node_at(dir, "null", S_IFCHR | 0666, makedev(1, 3));
  make_node_at(dir, "whiteout", S_IFCHR, 0);
  const UniqueFd sparse = open_at(dir, "sparse", O_WRONLY | O_CREAT, 0600);
  set_size(sparse.get(), 64 << 20);
  write_all_at(sparse.get(), std::as_bytes(std::span(std::string_view("middle"))), 32 << 20);
  set_times_at(dir, "d", {.tv_sec = 5, .tv_nsec = 6}, {.tv_sec = -7, .tv_nsec = 123456789});
  set_times_at(dir, "symlink", {.tv_sec = 1, .tv_nsec = 2}, {.tv_sec = 3, .tv_nsec = 4});
  chmod_at(dir, ".", 0751);
}

TEST(Copy, AFullCopyIsEqualAndApart) {
  test::Scratch scratch;
  const UniqueFd from = scratch.make("from");
  const UniqueFd to = scratch.make("to");
  fill(from.get());
  copy_tree(from.get(), to.get(), CopyMode::full);
  const test::Describe everything{.overlay_xattrs = true};
  EXPECT_EQ(describe_tree(from.get(), everything), describe_tree(to.get(), everything));
  EXPECT_NE(stat_at(from.get(), "d/file").st_ino, stat_at(to.get(), "d/file").st_ino);
  EXPECT_EQ(stat_at(to.get(), "d/file").st_nlink, 2u);
  EXPECT_LT(stat_at(to.get(), "sparse").st_blocks, 64);
}

TEST(Copy, ALinkedCopyIsEqualAndSharesFiles) {
  test::Scratch scratch;
  const UniqueFd from = scratch.make("from");
  const UniqueFd to = scratch.make("to");
  fill(from.get());
  copy_tree(from.get(), to.get(), CopyMode::link);
  const test::Describe everything{.hard_links = false, .overlay_xattrs = true};
  EXPECT_EQ(describe_tree(from.get(), everything), describe_tree(to.get(), everything));
  for (const PathView name : {PathView("d/file"), PathView("symlink"), PathView("whiteout"),
                              PathView("fifo"), PathView("sparse")})
    EXPECT_EQ(stat_at(from.get(), name).st_ino, stat_at(to.get(), name).st_ino);
  EXPECT_NE(stat_at(from.get(), "d").st_ino, stat_at(to.get(), "d").st_ino);
}

// Work for several copiers, who meet the same inodes in different directories.
void fill_wide(int dir) {
  write_file_at(dir, "shared", "of all", 0644);
  for (int i = 0; i < 6; ++i) {
    RelPath path = RelPath::parse(std::to_string(i));
    for (int depth = 0; depth < 20; ++depth, path.push("d")) {
      make_dir_at(dir, path, 0700 + static_cast<mode_t>(depth % 8));
      link_at(dir, "shared", dir, path / "shared");
      write_file_at(dir, path / "own", path.str(), 0640);
      make_dir_at(dir, path / "empty", 01777);
    }
  }
}

TEST(Copy, AWideTreeIsCopiedWhole) {
  test::Scratch scratch;
  const UniqueFd from = scratch.make("from");
  fill_wide(from.get());
  const UniqueFd full = scratch.make("full");
  copy_tree(from.get(), full.get(), CopyMode::full);
  const auto before = describe_tree(from.get());
  EXPECT_EQ(describe_tree(full.get()), before);
  EXPECT_EQ(stat_at(full.get(), "shared").st_nlink, 121u);
  const UniqueFd linked = scratch.make("linked");
  copy_tree(from.get(), linked.get(), CopyMode::link);
  EXPECT_EQ(describe_tree(linked.get(), {.hard_links = false}),
            describe_tree(from.get(), {.hard_links = false}));
  EXPECT_EQ(stat_at(from.get(), "shared").st_nlink, 242u);
}

// ext4 gives an inode 65000 links.
TEST(Copy, AnInodeWithoutFreeLinksIsCopiedOnce) {
  test::Scratch scratch;
  const UniqueFd from = scratch.make("from");
  const UniqueFd links = scratch.make("links");
  const UniqueFd to = scratch.make("to");
  write_file_at(from.get(), "a", "shared", 0644);
  link_at(from.get(), "a", from.get(), "b");
  for (uint64_t i = 0;
       try_link_at(from.get(), "a", links.get(), RelPath::parse_name(std::to_string(i), "name"));
       ++i)
    ASSERT_LT(i, 100'000u) << "this file system does not limit links";
  copy_tree(from.get(), to.get(), CopyMode::link);
  EXPECT_EQ(describe_tree(from.get(), {.hard_links = false}),
            describe_tree(to.get(), {.hard_links = false}));
  EXPECT_EQ(stat_at(to.get(), "a").st_ino, stat_at(to.get(), "b").st_ino);
  EXPECT_NE(stat_at(to.get(), "a").st_ino, stat_at(from.get(), "a").st_ino);
}

TEST(Copy, AMountPointIsRefused) {
  test::Scratch scratch;
  const UniqueFd from = scratch.make("from");
  const UniqueFd to = scratch.make("to");
  make_dir_at(from.get(), "m", 0755);
  const std::string target = scratch.path() + "/from/m";
  ASSERT_EQ(::mount("none", target.c_str(), "tmpfs", 0, nullptr), 0);
  EXPECT_THROW(copy_tree(from.get(), to.get(), CopyMode::link), Error);
  // Nor does a removal go into it.
  EXPECT_THROW(remove_children(from.get()), Error);
  ASSERT_EQ(::umount(target.c_str()), 0);
}

TEST(Copy, AnErrorInOneOfManyDirectoriesIsThrown) {
  test::Scratch scratch;
  const UniqueFd from = scratch.make("from");
  const UniqueFd to = scratch.make("to");
  fill_wide(from.get());
  make_dir_at(to.get(), "3", 0755);
  EXPECT_THROW(copy_tree(from.get(), to.get(), CopyMode::link), SysError);
}

TEST(Copy, DepthIsLimited) {
  test::Scratch scratch;
  const UniqueFd from = scratch.make("from");
  UniqueFd at = dup_fd(from.get());
  for (size_t i = 0; i < 600; ++i) {
    make_dir_at(at.get(), "d", 0755);
    at = open_dir_at(at.get(), "d");
  }
  copy_tree(from.get(), scratch.make("to").get(), CopyMode::link);
  for (size_t i = 600; i < limits::kPathDepth + 1; ++i) {
    make_dir_at(at.get(), "d", 0755);
    at = open_dir_at(at.get(), "d");
  }
  try {
    copy_tree(from.get(), scratch.make("to-2").get(), CopyMode::link);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::resource_exhausted);
  }
}

}  // namespace
}  // namespace veneer
