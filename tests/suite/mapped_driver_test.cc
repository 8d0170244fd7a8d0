// The driver `veneer` with id maps: what containers in a user namespace see and write, what is on
// disk, and what comes back as a layer.
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "base/error.h"
#include "graphdriver/registry.h"
#include "mount/mount.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::LayerTar;

constexpr uid_t kRootUid = 100000;
constexpr gid_t kRootGid = 200000;

// In a process of its own with these ids and no privileges: 0, or where it failed.
int as_ids(uid_t uid, gid_t gid, const std::function<int()>& act) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::setgroups(0, nullptr) != 0 || ::setresgid(gid, gid, gid) != 0 ||
        ::setresuid(uid, uid, uid) != 0)
      ::_exit(99);
    ::_exit(act());
  }
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Parameter: how layers are kept.
class MappedDriver : public testing::TestWithParam<const char*> {
 protected:
  MappedDriver() {
    // Others get no further than a directory that lets them pass.
    chmod_fd(scratch_.dir(), 0711);
    open();
  }
  ~MappedDriver() override {
    std::vector<std::string> ids = driver_->list();
    while (!ids.empty()) {
      const size_t before = ids.size();
      std::erase_if(ids, [&](const std::string& id) {
        try {
          driver_->remove(id);
          return true;
        } catch (const Error&) {
          return false;  // its children are first
        }
      });
      if (ids.size() == before) break;
    }
    EXPECT_TRUE(ids.empty());
    driver_->cleanup();
  }

  void open() {
    driver_.reset();
    driver_ = open_driver(
        "veneer", {.home = scratch_.path() + "/home",
                   .run = scratch_.path() + "/run",
                   .options = {fmt::format("veneer.form={}", GetParam())},
                   .id_maps = {IdMap::parse("0:100000:65536"), IdMap::parse("0:200000:65536")}});
  }
  // What a machine that starts again has: no mount, and no <run>.
  void reboot() {
    driver_.reset();
    scratch_.unmount_all();
    (void)remove_tree_at(scratch_.dir(), "run");
    open();
  }

  void apply(const std::string& id, const std::string& parent, LayerTar& tar) {
    driver_->create(id, parent, {});
    const std::string bytes = tar.bytes();
    MemorySource source(std::as_bytes(std::span(bytes)));
    (void)driver_->apply_diff(id, parent, source);
  }
  // "base" has f of 7:8 and d of 0:0; "top" over it has g of 0:0.
  void make_image() {
    LayerTar base;
    base.dir("./", {.mode = 0755}).dir("d").file("f", "f", {.uid = 7, .gid = 8});
    base.file("d/old", "old");
    apply("base", "", base);
    LayerTar top;
    top.file("g", "g");
    apply("top", "base", top);
  }
  std::string diff(const std::string& id, const std::string& parent) {
    StringSink tar;
    driver_->diff(id, parent, tar);
    return tar.text();
  }
  // What a tar's names and owners are, as a driver without maps lays them out.
  std::string owner_in(const std::string& tar, const std::string& path) {
    const test::Scratch other;
    const auto plain = open_driver("overlay", {.home = other.path() + "/home",
                                               .run = other.path() + "/run",
                                               .options = {},
                                               .id_maps = {}});
    MemorySource source(std::as_bytes(std::span(tar)));
    plain->add_layer("layer", "", source);
    std::string owner = this->owner(plain->get("layer", ""), path);
    plain->remove("layer");
    return owner;
  }
  static std::string owner(const std::string& root, const std::string& path) {
    const struct stat st = stat_at(open_root(root).get(), RelPath::parse(path));
    return fmt::format("{}:{}", st.st_uid, st.st_gid);
  }

  test::Scratch scratch_;
  std::unique_ptr<Driver> driver_;
};

// What a container's root does in its tree.
int write_as_root_inside(const std::string& root) {
  return as_ids(kRootUid, kRootGid, [&] {
    const auto in = [&](const char* path) { return root + "/" + path; };
    const int fd = ::open(in("new").c_str(), O_CREAT | O_WRONLY, 0644);
    if (fd < 0 || ::write(fd, "new", 3) != 3) return 1;
    if (::mkdir(in("d/sub").c_str(), 0755) != 0) return 2;
    if (::unlink(in("d/old").c_str()) != 0) return 3;
    if (::chmod(in("g").c_str(), 0600) != 0) return 4;  // copied up
    if (::chmod(in("f").c_str(), 0600) == 0) return 5;  // another's
    if (::rename(in("d/sub").c_str(), in("sub").c_str()) != 0) return 6;
    // These go through overlayfs's work directory: over a whiteout, and a merged one's removal.
    if (::mkdir(in("d/old").c_str(), 0755) != 0) return 7;
    if (::mkdir(in("other").c_str(), 0755) != 0) return 8;
    if (::rename(in("other").c_str(), in("d/old").c_str()) != 0) return 9;
    if (::rmdir(in("d/old").c_str()) != 0 || ::rmdir(in("d").c_str()) != 0) return 10;
    if (::mkdir(in("d").c_str(), 0755) != 0) return 11;
    return 0;
  });
}

TEST_P(MappedDriver, AContainerSeesAndWritesItsOwnIds) {
  make_image();
  driver_->create_read_write("c", "top", {});
  const std::string root = driver_->get("c", "");
  EXPECT_EQ(owner(root, "."), "100000:200000");
  EXPECT_EQ(owner(root, "f"), "100007:200008");
  EXPECT_EQ(owner(root, "d/old"), "100000:200000");
  ASSERT_EQ(write_as_root_inside(root), 0);
  EXPECT_EQ(owner(root, "new"), "100000:200000");
  // What Docker does with a file that it makes.
  UniqueFd top = open_root(root);
  write_file_at(top.get(), "hosts", "", 0644);
  EXPECT_EQ(owner(root, "hosts"), "0:0");
  chown_at(top.get(), "hosts", 100009, 200010);
  EXPECT_EQ(owner(root, "hosts"), "100009:200010");
  EXPECT_THROW(chown_at(top.get(), "hosts", 4242, 0), Error) << "no id of the map";
  top.reset();
  EXPECT_EQ(driver_->changes("c", "top"), (std::vector<Change>{{ChangeKind::modify, "/d"},
                                                               {ChangeKind::remove, "/d/old"},
                                                               {ChangeKind::modify, "/g"},
                                                               {ChangeKind::add, "/hosts"},
                                                               {ChangeKind::add, "/new"},
                                                               {ChangeKind::add, "/sub"}}));
  const std::string upper = driver_->metadata("c").at("UpperDir");
  EXPECT_EQ(owner(upper, "new"), "0:0") << "on disk, as in the tar";
  driver_->put("c");
}

TEST_P(MappedDriver, OthersDoNotPass) {
  make_image();
  driver_->create_read_write("c", "top", {});
  const std::string root = driver_->get("c", "");
  EXPECT_EQ(as_ids(kRootUid, kRootGid, [&] { return ::access(root.c_str(), X_OK); }), 0);
  EXPECT_NE(as_ids(4242, 4242, [&] { return ::access(root.c_str(), X_OK); }), 0);
  const std::string home = scratch_.path() + "/home";
  EXPECT_EQ(owner(home, "."), "0:200000");
  EXPECT_EQ(stat_at(open_root(home).get(), ".").st_mode & 07777U, 0710u);
  EXPECT_NE(as_ids(kRootUid, kRootGid, [&] { return ::access(home.c_str(), R_OK); }), 0);
  driver_->put("c");
}

TEST_P(MappedDriver, ADiffHasTheIdsInside) {
  make_image();
  driver_->create_read_write("c", "top", {});
  const std::string root = driver_->get("c", "");
  ASSERT_EQ(write_as_root_inside(root), 0);
  chown_at(open_root(root).get(), "new", 100009, 200010);
  driver_->put("c");
  const std::string tar = diff("c", "top");
  EXPECT_EQ(owner_in(tar, "new"), "9:10");
  EXPECT_EQ(owner_in(tar, "g"), "0:0");
  EXPECT_EQ(owner_in(diff("c", ""), "f"), "7:8");
  EXPECT_EQ(driver_->diff_size("c", "top"), 4u);
  // Committed: applied over the same parent, it is the same tree.
  driver_->create("image", "top", {});
  MemorySource source(std::as_bytes(std::span(tar)));
  (void)driver_->apply_diff("image", "top", source);
  EXPECT_EQ(diff("image", "top"), tar);
  EXPECT_TRUE(driver_->changes("image", "c").empty());
  EXPECT_EQ(owner(driver_->get("image", ""), "new"), "100009:200010");
  driver_->put("image");
}

TEST_P(MappedDriver, WhatTheHostsRootLeftIsInNoLayer) {
  make_image();
  driver_->create_read_write("c", "top", {});
  write_file_at(open_root(driver_->get("c", "")).get(), "left", "", 0644);
  driver_->put("c");
  try {
    (void)diff("c", "top");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::invalid_argument);
    EXPECT_NE(error.message().find("outside the id map"), std::string::npos) << error.message();
  }
}

// An id that stands for the host's root where containers write means nothing in an image.
TEST_P(MappedDriver, ALayerCannotNameTheHostsRoot) {
  LayerTar bad;
  bad.file("root", "", {.mode = 04755, .uid = 4294967294, .gid = 4294967294});
  apply("bad", "", bad);
  EXPECT_NE(owner(driver_->get("bad", ""), "root"), "0:0");
  driver_->put("bad");
  driver_->create_read_write("c", "bad", {});
  EXPECT_NE(owner(driver_->get("c", ""), "root"), "0:0");
  driver_->put("c");
}

// Docker's "-init" layer: written by the host's root, then the parent of the container's.
TEST_P(MappedDriver, AContainerOnAnother) {
  make_image();
  driver_->create_read_write("c-init", "top", {});
  {
    const UniqueFd root = open_root(driver_->get("c-init", ""));
    make_dir_at(root.get(), "etc", 0755);
    chown_at(root.get(), "etc", kRootUid, kRootGid);
    write_file_at(root.get(), "etc/hosts", "", 0644);
    chown_at(root.get(), "etc/hosts", kRootUid, kRootGid);
  }
  driver_->put("c-init");
  driver_->create_read_write("c", "c-init", {});
  const std::string root = driver_->get("c", "");
  EXPECT_EQ(owner(root, "etc/hosts"), "100000:200000");
  EXPECT_EQ(owner(root, "f"), "100007:200008");
  ASSERT_EQ(write_as_root_inside(root), 0);
  EXPECT_EQ(owner_in(diff("c", "top"), "etc/hosts"), "0:0");
  driver_->put("c");
  EXPECT_EQ(owner(driver_->get("c-init", ""), "etc/hosts"), "100000:200000") << "its view";
  driver_->put("c-init");
}

TEST_P(MappedDriver, ALayerOverNothing) {
  driver_->create_read_write("alone", "", {});
  const std::string root = driver_->get("alone", "");
  EXPECT_EQ(owner(root, "."), "100000:200000");
  EXPECT_EQ(as_ids(kRootUid, kRootGid, [&] { return ::mkdir((root + "/d").c_str(), 0700); }), 0);
  driver_->put("alone");
  EXPECT_EQ(owner_in(diff("alone", ""), "d"), "0:0");
  driver_->create_read_write("child", "alone", {});
  EXPECT_EQ(owner(driver_->get("alone", ""), "d"), "100000:200000") << "its view";
  driver_->put("alone");
  EXPECT_EQ(owner(driver_->get("child", ""), "d"), "100000:200000");
  driver_->put("child");
}

TEST_P(MappedDriver, ARestartOfTheMachine) {
  make_image();
  driver_->create_read_write("c", "top", {});
  ASSERT_EQ(write_as_root_inside(driver_->get("c", "")), 0);
  reboot();
  const std::string root = driver_->get("c", "");
  EXPECT_EQ(owner(root, "new"), "100000:200000");
  EXPECT_EQ(owner(root, "f"), "100007:200008");
  EXPECT_EQ(as_ids(kRootUid, kRootGid, [&] { return ::mkdir((root + "/later").c_str(), 0700); }),
            0);
  open();  // of the driver alone
  EXPECT_EQ(driver_->get("c", ""), root);
  driver_->put("c");
  const UniqueFd snapshot = open_root(root.substr(0, root.rfind('/')));
  EXPECT_TRUE(is_mount_point_at(snapshot.get(), "merged"));
  driver_->put("c");
  EXPECT_FALSE(is_mount_point_at(snapshot.get(), "merged"));
}

// It gets to the kernel, which has no such option when SELinux is off.
TEST_P(MappedDriver, ALabelIsTheMounts) {
  make_image();
  driver_->create_read_write("c", "top", {});
  const std::string label = "system_u:object_r:container_file_t:s0:c1,c2";
  try {
    const UniqueFd root = open_root(driver_->get("c", label));
    EXPECT_EQ(maybe_xattr_at(root.get(), "f", "security.selinux").value_or("").c_str(), label);
  } catch (const Error& error) {
    EXPECT_TRUE(error.message().contains("context")) << error.message();
    EXPECT_NE(::access("/sys/fs/selinux/enforce", F_OK), 0);
    (void)driver_->get("c", "");
  }
  driver_->put("c");
}

INSTANTIATE_TEST_SUITE_P(Forms, MappedDriver, testing::Values("packed", "directory"));

}  // namespace
}  // namespace veneer
