// What veneerd's options put around a snapshotter: layers that are packed when they are committed,
// and layers whose ids are mapped.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>

#include "base/at.h"
#include "base/error.h"
#include "tests/suite/rpc_served.h"
#include "tests/suite/snapshotter_suite.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::RemoteSnapshotter;
using test::Scratch;
using test::Served;

std::shared_ptr<Snapshotter> open_remote(const std::string& scratch) {
  static std::atomic<int> number = 0;
  const auto served =
      std::make_shared<Served>(scratch, fmt::format("{}/socket-{}", scratch, ++number), false);
  return {served, &served->remote};
}

// --- packing what clients extracted ---

class RpcPacking : public testing::Test {
 protected:
  void write(const std::string& key, const std::string& parent, const Labels& labels = {}) {
    const test::ClientMount mounted(remote().prepare(key, parent, labels), path());
    if (exists_at(mounted.dir(), "low"))
      unlink_at(mounted.dir(), "low");
    else
      write_file_at(mounted.dir(), "low", "1", 0644);
    write_file_at(mounted.dir(), RelPath::parse("of-" + key), key, 0600);
    chown_at(mounted.dir(), RelPath::parse("of-" + key), 5, 6);
    set_times_at(mounted.dir(), RelPath::parse("of-" + key), kTime, kTime);
  }
  static constexpr timespec kTime{.tv_sec = 1600000000, .tv_nsec = 123456789};
  std::string names(const std::string& name) {
    const test::ClientMount seen(remote().view("look-" + name, name, {}), path());
    return test::names_of(seen.dir());
  }
  std::string path() { return fmt::format("{}/mount-{}", scratch_.path(), next_++); }
  size_t count_layers() { return served_.store.meta().read().list_layers().size(); }
  size_t count_directories() { return list_dir(served_.store.layout().snapshots()).size(); }
  RemoteSnapshotter& remote() { return served_.remote; }

  Scratch scratch_;
  Served served_{scratch_.path(), scratch_.path() + "/socket", false};
  int next_ = 0;
};

TEST_F(RpcPacking, WhatIsCommittedBecomesALayer) {
  ASSERT_EQ(served_.store.form(), Form::packed);
  write("a", "");
  EXPECT_EQ(count_directories(), 1u);
  remote().commit("base", "a", {.labels = {{"l", "v"}}, .parent = {}});
  EXPECT_EQ(count_layers(), 1u);
  EXPECT_EQ(count_directories(), 0u);
  EXPECT_EQ(remote().stat("base").labels, (Labels{{"l", "v"}}));
  EXPECT_GT(remote().usage("base").size_bytes, 0u);
  write("b", "base");
  remote().commit("top", "b", {.labels = {}, .parent = "base"});
  EXPECT_EQ(count_layers(), 2u);
  EXPECT_EQ(count_directories(), 0u);
  EXPECT_EQ(names("base"), "low of-a");
  EXPECT_EQ(names("top"), "of-a of-b");  // the whiteout is there
  const test::ClientMount seen(remote().view("look", "top", {}), path());
  EXPECT_EQ(stat_at(seen.dir(), "of-b").st_mtim.tv_nsec, kTime.tv_nsec);
  EXPECT_EQ(stat_at(seen.dir(), "of-b").st_uid, 5u);
  EXPECT_EQ(stat_at(seen.dir(), "of-b").st_gid, 6u);
}

TEST_F(RpcPacking, WhatCannotBePackedIsCommittedAsItIs) {
  {
    const test::ClientMount mounted(remote().prepare("a", "", {}), path());
    write_file_at(mounted.dir(), ".wh.x", "", 0644);  // no tar can say that
  }
  remote().commit("odd", "a", {});
  EXPECT_EQ(count_layers(), 0u);
  EXPECT_EQ(names("odd"), ".wh.x");
}

TEST_F(RpcPacking, WhatIsRebasedStaysADirectory) {
  write("a", "");
  remote().commit("base", "a", {});
  const auto mounts = remote().prepare("b", "", {});
  {
    const test::ClientMount mounted(mounts, path());
    make_node_at(mounted.dir(), "low", S_IFCHR, 0);
  }
  remote().commit("top", "b", {.labels = {}, .parent = "base"});
  EXPECT_EQ(count_layers(), 1u);
  EXPECT_EQ(names("top"), "of-a");
}

TEST_F(RpcPacking, ACommitThatFailsChangesNothing) {
  write("a", "");
  remote().commit("name", "a", {});
  write("b", "");
  EXPECT_ANY_THROW(remote().commit("name", "b", {}));
  EXPECT_ANY_THROW(remote().commit("other", "b", {.labels = {}, .parent = "none"}));
  EXPECT_EQ(count_layers(), 1u);
  const test::ClientMount still(remote().mounts("b"), path());
  write_file_at(still.dir(), "more", "", 0644);
  EXPECT_EQ(test::names_of(still.dir()), "low more of-b");
}

// --- user namespaces ---

class RpcRemap : public RpcPacking {
 protected:
  RpcRemap() {
    write("a", "");
    remote().commit("packed", "a", {});
    write("b", "");
    remote().commit("directory", "b", {.labels = {}, .parent = "packed"});
  }
  static Labels maps(const std::string& uids, const std::string& gids) {
    return {{std::string(kUidMapping), uids}, {std::string(kGidMapping), gids}};
  }
  size_t count_clones() {
    const auto names = list_dir(open_root(served_.store.lowers().directory()).get());
    return static_cast<size_t>(
        std::ranges::count_if(names, [](const std::string& name) { return name.contains('.'); }));
  }
  static std::string owner(int dir, PathView path) {
    const struct stat st = stat_at(dir, path);
    return fmt::format("{}:{}", st.st_uid, st.st_gid);
  }

  Labels pod_ = maps("0:100000:65536", "0:200000:65536");
};

TEST_F(RpcRemap, LayersOfBothFormsAreMapped) {
  ASSERT_EQ(count_layers(), 1u);
  const auto mounts = remote().prepare("box", "directory", pod_);
  EXPECT_EQ(remote().mounts("box"), mounts);
  for (const std::string& option : mounts.at(0).options) EXPECT_FALSE(option.contains("idmap"));
  {
    const test::ClientMount box(mounts, path());
    EXPECT_EQ(owner(box.dir(), "."), "100000:200000");
    EXPECT_EQ(owner(box.dir(), "of-a"), "100005:200006");
    EXPECT_EQ(owner(box.dir(), "of-b"), "100005:200006");
    chmod_at(box.dir(), "of-a", 0640);  // copied up
    EXPECT_EQ(owner(box.dir(), "of-a"), "100005:200006");
    EXPECT_EQ(stat_at(box.dir(), "of-a").st_mode & 07777U, 0640u);
  }
  // The layers themselves, and others over them, are as they were.
  const test::ClientMount plain(remote().prepare("plain", "directory", {}), path());
  EXPECT_EQ(owner(plain.dir(), "of-a"), "5:6");
  EXPECT_EQ(owner(plain.dir(), "of-b"), "5:6");
  const test::ClientMount view(remote().view("view", "packed", pod_), path());
  EXPECT_EQ(owner(view.dir(), "of-a"), "100005:200006");
  const test::ClientMount alone(remote().prepare("alone", "", pod_), path());
  EXPECT_EQ(owner(alone.dir(), "."), "100000:200000");
}

TEST_F(RpcRemap, ClonesGoWithTheLastThatNeedsThem) {
  const auto mounts = remote().prepare("one", "directory", pod_);
  EXPECT_EQ(count_clones(), 2u);
  EXPECT_EQ(remote().prepare("two", "packed", pod_).size(), 1u);
  EXPECT_EQ(count_clones(), 2u);  // shared
  remote().prepare("three", "packed", maps("0:300000:65536", "0:300000:65536"));
  EXPECT_EQ(count_clones(), 3u);
  remote().remove("three");
  EXPECT_EQ(count_clones(), 2u);
  remote().remove("one");
  EXPECT_EQ(count_clones(), 2u);
  // Of a lower that has gone.
  remote().remove("directory");
  EXPECT_EQ(count_clones(), 1u);
  // After a restart the same ones count.
  {
    RemappingSnapshotter again(*served_.snapshotter, served_.store, "containerd");
    EXPECT_EQ(count_clones(), 1u);
    EXPECT_EQ(again.mounts("two"), remote().mounts("two"));
  }
  served_.snapshotter->remove("two");
  RemappingSnapshotter again(*served_.snapshotter, served_.store, "containerd");
  EXPECT_EQ(count_clones(), 0u);
}

// A server without maps takes any label.
TEST_F(RpcRemap, ALabelThatIsNoMapEndsOneSnapshotAlone) {
  remote().prepare("good", "packed", pod_);
  served_.snapshotter->prepare("bad", "packed", maps("nonsense", "0:1:1"));
  RemappingSnapshotter again(*served_.snapshotter, served_.store, "containerd");
  EXPECT_EQ(again.mounts("good"), remote().mounts("good"));
  EXPECT_THROW(again.mounts("bad"), Error);
  SnapshotInfo info = again.stat("good");
  info.labels[std::string(kUidMapping)] = "x";
  try {
    remote().update(info, {});
    ADD_FAILURE() << "taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
  }
  again.remove("bad");
  EXPECT_EQ(again.stat("good").labels, pod_);
}

TEST_F(RpcRemap, WhatCannotBeMappedLeavesNothing) {
  for (const auto& [uids, gids] : {std::pair("0:1", "0:100000:65536"),
                                   {"nonsense", "0:1:1"},
                                   {"", ""},
                                   {"7:100007:1", "0:100000:65536"}}) {  // nobody is root
    try {
      remote().prepare("box", "packed", maps(uids, gids));
      ADD_FAILURE() << uids;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::invalid_argument) << uids << ": " << error.message();
    }
  }
  EXPECT_EQ(count_clones(), 0u);
  remote().prepare("box", "packed", pod_);
  try {
    remote().commit("name", "box", {});
    ADD_FAILURE() << "committed";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::failed_precondition);
  }
}

}  // namespace
}  // namespace veneer

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  // It counts the inodes of a directory; a packed layer has those of its two files.
  std::string& filter = testing::GTEST_FLAG(filter);
  if (filter == "*") filter = "*-PackingSuite.UsageIsOfOneSnapshotAlone";
  veneer::test::register_snapshotter_suite("PackingSuite", veneer::open_remote);
  return RUN_ALL_TESTS();
}
