// The `overlay` driver: the suite of all graph drivers, and what is its own: Docker's format on
// disk, what crashes and other programs leave, refusals.
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/error.h"
#include "graphdriver/registry.h"
#include "mount/mount.h"
#include "tests/suite/driver_suite.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::LayerTar;

std::unique_ptr<Driver> open_overlay(const std::string& scratch) {
  return open_driver("overlay", {.home = scratch + "/home",
                                 .run = scratch + "/run",
                                 .options = {"overlay.volatile=true"},
                                 .id_maps = {}});
}

class Overlay : public testing::Test {
 protected:
  Overlay() {
    driver_ = open_overlay(scratch_.path());
    home_ = open_dir_at(scratch_.dir(), "home");
    LayerTar base;
    base.dir("d", {.mode = 0750}).file("f", "base");
    add("image", "", base);
    driver_->create_read_write("c", "image", {});
  }
  ~Overlay() override {
    if (!driver_) return;
    for (const std::string& id : driver_->list()) driver_->remove(id);
  }

  void add(const std::string& id, const std::string& parent, LayerTar& tar) {
    const std::string bytes = tar.bytes();
    MemorySource source(std::as_bytes(std::span(bytes)));
    driver_->add_layer(id, parent, source);
  }
  void reopen() { driver_ = open_overlay(scratch_.path()); }
  std::vector<std::string> parts(PathView id) {
    return list_dir(open_dir_at(home_.get(), id).get());
  }
  mode_t mode(PathView path) { return stat_at(home_.get(), path).st_mode & 07777U; }

  test::Scratch scratch_;
  std::unique_ptr<Driver> driver_;
  UniqueFd home_;
};

const std::vector<std::string> kContainerParts{"lower-id", "merged", "upper", "work"};

TEST_F(Overlay, TheFormatIsDockers) {
  EXPECT_EQ(mode("."), 0710u);
  EXPECT_EQ(parts("image"), std::vector<std::string>{"root"});
  EXPECT_EQ(mode("image"), 0700u);
  EXPECT_EQ(mode("image/root"), 0755u);
  EXPECT_EQ(parts("c"), kContainerParts);
  EXPECT_EQ(mode("c"), 0700u);
  EXPECT_EQ(mode("c/work"), 0700u);
  EXPECT_EQ(mode("c/merged"), 0700u);
  EXPECT_EQ(read_file_at(home_.get(), "c/lower-id", 100), "image");
  // A container on a container has the same image below.
  driver_->create_read_write("cc", "c", {});
  EXPECT_EQ(read_file_at(home_.get(), "cc/lower-id", 100), "image");
}

TEST_F(Overlay, TheUpperHasTheModeOfTheParentsRoot) {
  LayerTar layer;
  layer.dir("./", {.mode = 01711});
  add("odd", "", layer);
  driver_->create_read_write("oc", "odd", {});
  EXPECT_EQ(mode("oc/upper"), 01711u);
}

TEST_F(Overlay, ImagesShareInodes) {
  LayerTar layer;
  layer.file("g", "");
  driver_->create("child", "image", {});
  EXPECT_EQ(parts("child"), kContainerParts);
  const std::string bytes = layer.bytes();
  MemorySource source(std::as_bytes(std::span(bytes)));
  driver_->apply_diff("child", "image", source);
  EXPECT_EQ(parts("child"), std::vector<std::string>{"root"});
  EXPECT_EQ(stat_at(home_.get(), "child/root/f").st_ino,
            stat_at(home_.get(), "image/root/f").st_ino);
  EXPECT_EQ(mode("child/root/d"), 0750u);
}

TEST_F(Overlay, ALayerIsSeenWhenItIsCommitted) {
  LayerTar layer;
  layer.file("g", "new");
  const std::string bytes = layer.bytes();
  const auto make = [&] {
    MemorySource source(std::as_bytes(std::span(bytes)));
    return driver_->make_layer("made", "image", nullptr, source);
  };
  make().reset();
  EXPECT_FALSE(driver_->exists("made"));
  const std::unique_ptr<NewLayer> late = make();
  make()->commit();
  EXPECT_EQ(parts("made"), std::vector<std::string>{"root"});
  try {
    late->commit();
    ADD_FAILURE() << "made twice";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::already_exists);
  }
}

TEST_F(Overlay, Metadata) {
  const std::string home = path_of(home_.get());
  EXPECT_EQ(driver_->metadata("image"),
            (std::map<std::string, std::string>{{"RootDir", home + "/image/root"}}));
  EXPECT_EQ(driver_->metadata("c"),
            (std::map<std::string, std::string>{{"LowerDir", home + "/image/root"},
                                                {"UpperDir", home + "/c/upper"},
                                                {"WorkDir", home + "/c/work"},
                                                {"MergedDir", home + "/c/merged"}}));
  EXPECT_EQ(driver_->get("image", ""), home + "/image/root");
}

TEST_F(Overlay, MountsAreCountedAndMergedStays) {
  const std::string path = driver_->get("c", "");
  EXPECT_EQ(path, path_of(home_.get()) + "/c/merged");
  EXPECT_EQ(file_system_name(file_system_magic_at(home_.get(), "c/merged")), "overlay");
  driver_->get("c", "");
  driver_->put("c");
  EXPECT_TRUE(is_mount_point_at(home_.get(), "c/merged"));
  driver_->put("c");
  EXPECT_FALSE(is_mount_point_at(home_.get(), "c/merged"));
  EXPECT_EQ(parts("c"), kContainerParts);
}

// Later Dockers remove merged/ at put and make it at get.
TEST_F(Overlay, AMissingMergedIsMade) {
  remove_dir_at(home_.get(), "c/merged");
  driver_->put("c");
  driver_->get("c", "");
  EXPECT_EQ(mode("c/merged"), 0755u) << "the root of what is mounted";
  driver_->put("c");
  EXPECT_EQ(mode("c/merged"), 0700u);
}

// A put for the get of a former life, and a mount that another made.
TEST_F(Overlay, MountsOfOthersAreAdopted) {
  driver_->get("c", "");
  (void)remove_tree_at(scratch_.dir(), "run");  // as if another had mounted it
  reopen();
  driver_->get("c", "");
  driver_->put("c");
  EXPECT_FALSE(is_mount_point_at(home_.get(), "c/merged"));
  driver_->get("c", "");
  (void)remove_tree_at(scratch_.dir(), "run");
  reopen();
  driver_->put("c");
  EXPECT_FALSE(is_mount_point_at(home_.get(), "c/merged"));
}

TEST_F(Overlay, ACountWithoutItsMountIsNone) {
  driver_->get("c", "");
  driver_->get("c", "");
  ASSERT_TRUE(unmount_at(home_.get(), "c/merged"));  // as a reboot does
  driver_->get("c", "");
  driver_->put("c");
  EXPECT_FALSE(is_mount_point_at(home_.get(), "c/merged"));
}

// A disk that is full, or a death in between, must not leave others' mount without a count.
TEST_F(Overlay, ACountIsWrittenInOnePiece) {
  driver_->get("c", "");
  const UniqueFd run = open_root(scratch_.path() + "/run/overlay");
  const RelPath file = RelPath::parse(list_dir(run.get()).at(0) + "/c");
  const off_t size = stat_at(run.get(), file).st_size;
  EXPECT_GT(size, 0);
  for (int more = 0; more < 12; ++more) driver_->get("c", "");
  EXPECT_EQ(stat_at(run.get(), file).st_size, size);
  for (int holder = 0; holder < 12; ++holder) driver_->put("c");
  EXPECT_TRUE(is_mount_point_at(home_.get(), "c/merged"));
  driver_->put("c");
  EXPECT_FALSE(is_mount_point_at(home_.get(), "c/merged"));
}

TEST_F(Overlay, ABusyMountIsNotPut) {
  const UniqueFd root = open_root(driver_->get("c", ""));
  try {
    driver_->put("c");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::failed_precondition);
  }
  EXPECT_TRUE(is_mount_point_at(home_.get(), "c/merged"));
}

// Mounts that someone left in a layer, of directories and of files, are detached and not followed.
TEST_F(Overlay, RemovalStaysOutOfMounts) {
  const UniqueFd precious = scratch_.make("precious");
  write_file_at(precious.get(), "data", "", 0644);
  const auto bind = [&](const std::string& from, const std::string& to) {
    const std::string source = scratch_.path() + from;
    const std::string target = scratch_.path() + "/home/" + to;
    ASSERT_EQ(::mount(source.c_str(), target.c_str(), "", MS_BIND, nullptr), 0) << to;
  };
  const auto mounts_before = scratch_.mounts();
  const UniqueFd root = open_root(driver_->get("image", ""));
  make_dir_at(root.get(), "proc", 0755);
  write_file_at(root.get(), "resolv.conf", "", 0644);
  for (int twice = 0; twice < 2; ++twice) {
    bind("/precious", "image/root/proc");
    bind("/precious/data", "image/root/resolv.conf");
  }
  driver_->remove("c");
  driver_->remove("image");
  EXPECT_TRUE(exists_at(precious.get(), "data"));
  EXPECT_EQ(scratch_.mounts(), mounts_before);
  EXPECT_TRUE(list_dir(open_dir_at(home_.get(), ".veneer-staging").get()).empty());
}

// What cannot be deleted keeps no one from the other layers.
TEST_F(Overlay, WhatCannotBeRemovedIsLeftBehind) {
  make_dir_at(home_.get(), ".veneer-staging/dead", 0700);
  make_dir_at(home_.get(), "half", 0700);
  make_dir_at(home_.get(), "half/upper", 0755);
  const PathView immutable[] = {PathView(".veneer-staging/dead/f"), PathView("half/upper/f")};
  for (const PathView path : immutable) {
    write_file_at(home_.get(), path, "", 0644);
    test::set_immutable(home_.get(), path, true);
  }
  const timespec long_ago{.tv_sec = ::time(nullptr) - 3700, .tv_nsec = 0};
  set_times_at(home_.get(), "half", long_ago, long_ago);
  reopen();
  EXPECT_TRUE(driver_->exists("c"));
  driver_->remove("c");
  test::set_immutable(home_.get(), immutable[0], false);
  const UniqueFd staging = open_dir_at(home_.get(), ".veneer-staging");
  for (const std::string& name : list_dir(staging.get())) {  // half went here
    const RelPath upper = RelPath::parse(name + "/upper/f");
    if (exists_at(staging.get(), upper)) test::set_immutable(staging.get(), upper, false);
  }
  reopen();
  EXPECT_EQ(driver_->list(), std::vector<std::string>{"image"});
  EXPECT_TRUE(list_dir(open_dir_at(home_.get(), ".veneer-staging").get()).empty());
}

// A home that is none: /var/lib/veneer, /var/lib/docker/overlay2, somebody's directory.
TEST_F(Overlay, WhatIsNoLayerIsNotDeleted) {
  for (const PathView path : {PathView("snapshots"), PathView("lost+found"), PathView("src")})
    make_dir_at(home_.get(), path, 0755);
  write_file_at(home_.get(), "src/main.cc", "", 0644);
  make_dir_at(home_.get(), "overlay2", 0700);
  for (const PathView path : {PathView("overlay2/diff"), PathView("overlay2/work")})
    make_dir_at(home_.get(), path, 0755);
  make_dir_at(home_.get(), "user", 0700);
  for (const PathView path : {PathView("user/root"), PathView("user/upper"), PathView("user/doc")})
    make_dir_at(home_.get(), path, 0755);
  const timespec long_ago{.tv_sec = ::time(nullptr) - 3700, .tv_nsec = 0};
  for (const PathView path : {PathView("snapshots"), PathView("lost+found"), PathView("src"),
                              PathView("overlay2"), PathView("user")})
    set_times_at(home_.get(), path, long_ago, long_ago);
  const auto look = [&] {
    auto tree = test::describe_tree(home_.get());
    tree.erase(".");  // where the probe was
    return tree;
  };
  const auto before = look();
  reopen();
  EXPECT_EQ(look(), before);
  EXPECT_EQ(driver_->list(),
            (std::vector<std::string>{"c", "image", "overlay2", "snapshots", "src", "user"}));
}

TEST_F(Overlay, WhatCrashesLeftIsRemoved) {
  make_dir_at(home_.get(), "half", 0700);  // a Docker died in Create
  make_dir_at(home_.get(), "half/upper", 0755);
  make_dir_at(home_.get(), "empty", 0700);
  make_dir_at(home_.get(), "c/tmproot12345", 0700);  // and in ApplyDiff
  write_file_at(home_.get(), "c/tmproot12345/f", "", 0644);
  make_dir_at(home_.get(), "image/upper", 0755);  // just after its rename
  make_dir_at(home_.get(), "image/work", 0700);
  write_file_at(home_.get(), "image/lower-id", "x", 0644);
  make_dir_at(home_.get(), ".veneer-staging/dead", 0700);
  make_dir_at(home_.get(), "c/tmproot-veneer-dead", 0700);
  make_dir_at(home_.get(), ".veneer-probe-dead", 0700);
  // A Docker may be at it right now.
  reopen();
  EXPECT_EQ(driver_->list(), (std::vector<std::string>{"c", "empty", "half", "image"}));
  EXPECT_TRUE(exists_at(home_.get(), "c/tmproot12345"));
  EXPECT_FALSE(exists_at(home_.get(), "c/tmproot-veneer-dead"));
  const timespec long_ago{.tv_sec = ::time(nullptr) - 3700, .tv_nsec = 0};
  for (const PathView path : {PathView("half"), PathView("empty"), PathView("c/tmproot12345"),
                              PathView(".veneer-probe-dead")})
    set_times_at(home_.get(), path, long_ago, long_ago);
  reopen();
  EXPECT_EQ(driver_->list(), (std::vector<std::string>{"c", "image"}));
  EXPECT_EQ(parts("c"), kContainerParts);
  EXPECT_EQ(parts("image"), std::vector<std::string>{"root"});
  EXPECT_TRUE(list_dir(open_dir_at(home_.get(), ".veneer-staging").get()).empty());
  EXPECT_FALSE(exists_at(home_.get(), ".veneer-probe-dead"));
  EXPECT_THROW(driver_->create(".veneer-probe-x", "", {}), Error);
}

TEST_F(Overlay, TheWorkOfTheLivingIsLeftAlone) {
  make_dir_at(home_.get(), "c/tmproot-veneer-1", 0700);
  const UniqueFd alive = open_dir_at(home_.get(), "c/tmproot-veneer-1");
  ASSERT_EQ(::flock(alive.get(), LOCK_EX), 0);
  reopen();
  EXPECT_TRUE(exists_at(home_.get(), "c/tmproot-veneer-1"));
  (void)remove_tree_at(home_.get(), "c/tmproot-veneer-1");
}

TEST_F(Overlay, Status) {
  const auto status = driver_->status();
  EXPECT_EQ(status.at(0), std::pair(std::string("Backing Filesystem"),
                                    file_system_name(file_system_magic_at(home_.get(), "."))));
  EXPECT_EQ(status.at(1), std::pair(std::string("Supports d_type"), std::string("true")));
  EXPECT_FALSE(driver_->capabilities().reproduces_exact_diffs);
}

TEST_F(Overlay, UnknownOptionsAreNamed) {
  for (const char* option : {"overlay.size=1", "volatile=true", "overlay.volatile=yes", ""}) {
    try {
      (void)open_driver("overlay", {.home = scratch_.path() + "/home2",
                                    .run = scratch_.path() + "/run",
                                    .options = {option},
                                    .id_maps = {}});
      FAIL() << option;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::invalid_argument);
      EXPECT_NE(error.message().find("overlay"), std::string::npos);
    }
  }
  EXPECT_FALSE(exists_at(scratch_.dir(), "home2"));
  EXPECT_THROW(driver_->create("x", "", {.mount_label = "", .storage_options = {{"size", "1G"}}}),
               Error);
  EXPECT_THROW((void)open_driver("aufs", {}), Error);
}

// overlayfs on overlayfs cannot have an upper.
TEST_F(Overlay, AnUnfitFileSystemIsRefused) {
  const std::string merged = driver_->get("c", "");
  try {
    (void)open_driver(
        "overlay",
        {.home = merged + "/home", .run = scratch_.path() + "/run", .options = {}, .id_maps = {}});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::unsupported);
    EXPECT_NE(error.message().find("lies on overlay"), std::string::npos) << error.message();
    EXPECT_NE(error.message().find("ext4"), std::string::npos);
  }
  EXPECT_FALSE(exists_at(open_root(merged).get(), "home"));
  driver_->put("c");
}

TEST_F(Overlay, TheMappedRootOwnsWhatIsMade) {
  const auto mapped = open_driver(
      "overlay", {.home = scratch_.path() + "/mapped",
                  .run = scratch_.path() + "/run",
                  .options = {},
                  .id_maps = {IdMap::parse("0:100000:65536"), IdMap::parse("0:200000:65536")}});
  LayerTar base;
  base.file("f", "", {.uid = 7, .gid = 8});
  const std::string bytes = base.bytes();
  MemorySource source(std::as_bytes(std::span(bytes)));
  mapped->add_layer("image", "", source);
  mapped->create_read_write("c", "image", {});
  const UniqueFd home = open_dir_at(scratch_.dir(), "mapped");
  const auto owner = [&](PathView path) {
    const struct stat st = stat_at(home.get(), path);
    return fmt::format("{}:{}", st.st_uid, st.st_gid);
  };
  EXPECT_EQ(owner("."), "0:200000");
  for (const PathView path : {PathView("image"), PathView("image/root"), PathView("c"),
                              PathView("c/upper"), PathView("c/work"), PathView("c/merged")})
    EXPECT_EQ(owner(path), "100000:200000") << path.c_str();
  EXPECT_EQ(owner("image/root/f"), "100007:200008");
  mapped->get("c", "");
  EXPECT_EQ(owner("c/work/work"), "100000:200000");
  mapped->put("c");
  StringSink diff;
  mapped->diff("image", "", diff);
  test::Scratch other;
  MemorySource back(std::as_bytes(std::span(diff.text())));
  driver_->add_layer("back", "", back);
  const struct stat st = stat_at(home_.get(), "back/root/f");
  EXPECT_EQ(st.st_uid, 7u);
  EXPECT_EQ(st.st_gid, 8u);
  mapped->remove("c");
  mapped->remove("image");
}

// A kernel without SELinux refuses the mount; then there must be none, and no count.
TEST_F(Overlay, AMountThatFailsLeavesNothing) {
  if (exists_at(AT_FDCWD, RelPath::clamp("sys/fs/selinux/enforce"))) GTEST_SKIP();
  EXPECT_THROW(driver_->get("c", "system_u:object_r:container_file_t:s0:c1,c2"), Error);
  EXPECT_FALSE(is_mount_point_at(home_.get(), "c/merged"));
  driver_->get("c", "");
  driver_->put("c");
  EXPECT_FALSE(is_mount_point_at(home_.get(), "c/merged"));
}

TEST_F(Overlay, APathWithOverlayfssOwnCharacters) {
  const std::string odd = scratch_.path() + "/a:b,c\\d e";
  const auto driver = open_driver(
      "overlay", {.home = odd, .run = scratch_.path() + "/run", .options = {}, .id_maps = {}});
  LayerTar base;
  base.file("f", "odd");
  const std::string bytes = base.bytes();
  MemorySource source(std::as_bytes(std::span(bytes)));
  driver->add_layer("image:1", "", source);
  driver->create_read_write("c,2", "image:1", {});
  EXPECT_EQ(read_file_at(open_root(driver->get("c,2", "")).get(), "f", 10), "odd");
  driver->put("c,2");
  driver->remove("c,2");
  driver->remove("image:1");
}

}  // namespace
}  // namespace veneer

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  veneer::test::register_driver_suite("OverlaySuite", veneer::open_overlay);
  return RUN_ALL_TESTS();
}
