#include "store/layout.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/failpoint.h"
#include "store/test_root.h"

namespace veneer {
namespace {

class LayoutTest : public testing::Test {
 protected:
  TestRoot root_;
  Layout layout_{root_.path() + "/store"};
};

unsigned mode_at(int dir, PathView path) {
  return stat_at(dir, path).st_mode & 07777u;
}

// Files and directories, enough for two to meet while they delete them.
void make_tree(int dir, const RelPath& name) {
  make_dir_at(dir, name, 0700);
  const UniqueFd top = open_dir_at(dir, name);
  for (int i = 0; i < 4; ++i) {
    const RelPath below = RelPath::parse_name(fmt::format("d{}", i), "name");
    make_dir_at(top.get(), below, 0700);
    make_dir_at(top.get(), below / "d", 0700);
    write_file_at(top.get(), below / "d" / "f", "text", 0400);
  }
}

TEST(Layout, MakesItsDirectoriesForTheirOwnerOnly) {
  const TestRoot root;
  const mode_t old = ::umask(0);
  {
    const Layout layout(root.path() + "/a/store");
  }
  ::umask(0777);
  {
    const Layout layout(root.path() + "/b/store");
  }
  ::umask(old);
  for (const std::string_view name : {"a", "b"}) {
    const RelPath path = RelPath::parse_name(name, "name") / "store";
    EXPECT_EQ(mode_at(root.dir(), path), 0700u);
    for (const char* below :
         {"layers", "layers/sha256", "snapshots", "blobs", "blobs/sha256", "staging", "trash"})
      EXPECT_EQ(mode_at(root.dir(), RelPath::parse(path.str() + "/" + below)), 0700u) << below;
  }
}

TEST(Layout, RootsMayBeLinksAndMustBeAbsolute) {
  const TestRoot root;
  make_symlink_at("store", root.dir(), "link");
  make_dir_at(root.dir(), "store", 0755);
  const Layout layout(root.path() + "/link");
  EXPECT_EQ(layout.path(), root.path() + "/store");
  EXPECT_EQ(mode_at(root.dir(), "store"), 0755u);
  EXPECT_EQ(mode_at(root.dir(), "store/layers"), 0700u);
  EXPECT_THROW(Layout("store"), Error);
}

TEST_F(LayoutTest, Names) {
  const Digest digest = Sha256::of("a");
  EXPECT_EQ(layout_.path(), root_.path() + "/store");
  EXPECT_EQ(layout_.snapshot_path(17), layout_.path() + "/snapshots/17");
  EXPECT_EQ(layout_.layer_path(digest), layout_.path() + "/layers/sha256/" + digest.hex());
  EXPECT_EQ(Layout::snapshot_name(17).str(), "17");
  EXPECT_EQ(Layout::digest_name(digest).str(), digest.hex());
}

TEST_F(LayoutTest, DiscardedIsInTrashUntilItIsEmptied) {
  for (const int64_t id : {1, 2}) make_tree(layout_.snapshots(), Layout::snapshot_name(id));
  for (const int64_t id : {1, 2}) layout_.discard(layout_.snapshots(), Layout::snapshot_name(id));
  write_file_at(layout_.blobs(), "file", "text", 0600);
  layout_.discard(layout_.blobs(), RelPath::parse("file"));
  EXPECT_TRUE(list_dir(layout_.snapshots()).empty());
  EXPECT_TRUE(list_dir(layout_.blobs()).empty());
  EXPECT_EQ(list_dir(layout_.trash()).size(), 3u);
  EXPECT_THROW(layout_.discard(layout_.blobs(), RelPath::parse("file")), SysError);
  empty_trash(layout_);
  EXPECT_TRUE(list_dir(layout_.trash()).empty());
}

TEST_F(LayoutTest, SeveralMayEmptyTheTrash) {
  for (int64_t id = 0; id < 20; ++id) make_tree(layout_.trash(), Layout::snapshot_name(id));
  for (int64_t id = 0; id < 10; ++id) make_tree(layout_.staging(), Layout::snapshot_name(id));
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { EXPECT_NO_THROW(empty_trash(layout_)); });
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(list_dir(layout_.trash()).empty());
  EXPECT_TRUE(list_dir(layout_.staging()).empty());
}

TEST_F(LayoutTest, OneErrorDoesNotKeepTheRest) {
  for (int64_t id = 0; id < 5; ++id) make_tree(layout_.trash(), Layout::snapshot_name(id));
  failpoint::arm({.at = 1, .error_number = EIO});
  EXPECT_THROW(empty_trash(layout_), SysError);
  failpoint::disarm();
  EXPECT_EQ(list_dir(layout_.trash()).size(), 1u);
}

TEST_F(LayoutTest, StagingIsKeptWhileItsMakerLives) {
  std::optional<StagingDir> staging(layout_);
  write_file_at(staging->fd(), "f", "text", 0600);
  EXPECT_EQ(mode_at(staging->fd(), "f"), 0600u);
  make_tree(layout_.staging(), RelPath::parse("left"));
  EXPECT_EQ(list_dir(layout_.staging()).size(), 2u);
  empty_trash(layout_);
  EXPECT_EQ(list_dir(layout_.staging()).size(), 1u);
  EXPECT_TRUE(exists_at(staging->fd(), "f"));

  StagingDir moved(std::move(*staging));
  staging.reset();
  EXPECT_TRUE(exists_at(moved.fd(), "f"));
  {
    const StagingDir last(std::move(moved));
    EXPECT_EQ(list_dir(layout_.staging()).size(), 1u);
  }
  EXPECT_TRUE(list_dir(layout_.staging()).empty());
}

TEST_F(LayoutTest, PublishingNeverReplaces) {
  const RelPath name = Layout::snapshot_name(1);
  {
    StagingDir staging(layout_);
    make_dir_at(staging.fd(), kUpperName, 0755);
    staging.publish(layout_.snapshots(), name);
    empty_trash(layout_);
  }
  EXPECT_TRUE(exists_at(layout_.snapshots(), name / "fs"));
  {
    StagingDir staging(layout_);
    EXPECT_THROW(staging.publish(layout_.snapshots(), name), SysError);
  }
  EXPECT_TRUE(exists_at(layout_.snapshots(), name / "fs"));
  EXPECT_TRUE(list_dir(layout_.staging()).empty());
}

TEST_F(LayoutTest, PublishingIsWholeOrNot) {
  for (uint64_t at = 1;; ++at) {
    bool is_published = true;
    {
      StagingDir staging(layout_);
      make_dir_at(staging.fd(), kUpperName, 0755);
      failpoint::arm({.at = at, .error_number = EIO});
      try {
        staging.publish(layout_.snapshots(), Layout::snapshot_name(1));
      } catch (const SysError&) {
        is_published = false;
      }
      failpoint::disarm();
    }
    EXPECT_EQ(list_dir(layout_.snapshots()).size(), is_published ? 1u : 0u);
    EXPECT_TRUE(list_dir(layout_.staging()).empty());
    if (is_published) {
      EXPECT_EQ(at, layout_.is_journal_in_order() ? 3U : 4U);  // a rename, and one sync or two
      break;
    }
  }
}

TEST_F(LayoutTest, MakersAndEmptiersMayMeet) {
  std::jthread emptier([&] {
    for (int i = 0; i < 60; ++i) empty_trash(layout_);
  });
  for (int64_t id = 0; id < 60; ++id) {
    StagingDir staging(layout_);
    write_file_at(staging.fd(), "f", "text", 0600);
    staging.publish(layout_.snapshots(), Layout::snapshot_name(id), StagingDir::Durable::later);
  }
  emptier.join();
  const std::vector<std::string> names = list_dir(layout_.snapshots());
  EXPECT_EQ(names.size(), 60u);
  for (const std::string& name : names)
    EXPECT_TRUE(exists_at(layout_.snapshots(), RelPath::parse_name(name, "name") / "f")) << name;
}

}  // namespace
}  // namespace veneer
