// The store's own snapshotter: the suite of all snapshotters, and what is its own: layers in both
// forms, restarts and reboots, several spaces. local_crash_test.cc has what crashes leave.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"
#include "tests/suite/local_snapshotter.h"
#include "tests/support/code_of.h"

namespace veneer {
namespace {

using test::base_layer;
using test::ClientMount;
using test::code_of;
using test::kSpace;
using test::LayerTar;
using test::Local;
using test::Opened;
using test::options_in;
using test::top_layer;

std::shared_ptr<Snapshotter> open_local(const std::string& scratch) {
  const auto opened = std::make_shared<Opened>(scratch, true);
  return {opened, opened->snapshotter.get()};
}

// --- mounts ---

TEST_F(Local, MountsAreThoseOfContainerd) {
  const std::string root = path_of(store().layout().root());
  const auto one = snapshots().prepare("1", "", {});
  EXPECT_EQ(one,
            (std::vector<Mount>{
                {.type = "bind", .source = root + "/snapshots/1/fs", .options = {"rw", "rbind"}}}));
  snapshots().commit("base", "1", {});
  const auto two = snapshots().prepare("2", "base", {});
  const std::vector<Mount> expected{
      {.type = "overlay",
       .source = "overlay",
       .options = {"index=off", "workdir=" + root + "/snapshots/2/work",
                   "upperdir=" + root + "/snapshots/2/fs",
                   "lowerdir=" + root + "/snapshots/1/fs"}}};
  EXPECT_EQ(two, expected);
  snapshots().commit("top", "2", {});
  EXPECT_EQ(snapshots().view("3", "", {}),
            (std::vector<Mount>{
                {.type = "bind", .source = root + "/snapshots/3/fs", .options = {"ro", "rbind"}}}));
  EXPECT_EQ(snapshots().view("4", "base", {}),
            (std::vector<Mount>{
                {.type = "bind", .source = root + "/snapshots/1/fs", .options = {"ro", "rbind"}}}));
  EXPECT_EQ(snapshots().view("5", "top", {}),
            (std::vector<Mount>{{.type = "overlay",
                                 .source = "overlay",
                                 .options = {"lowerdir=" + root + "/snapshots/2/fs:" + root +
                                             "/snapshots/1/fs"}}}));
}

TEST_F(Local, ThePathOfAStoreMayHoldAnything) {
  const std::string odd = scratch_.path() + "/a:b,c\\d e";
  Store store({.root = odd, .run = odd + "/run:1,2", .is_volatile = false, .form = {}});
  const auto snapshotter = open_snapshotter(store, kSpace);
  snapshotter->prepare("1", "", {});
  snapshotter->commit("base", "1", {});
  const auto mounts = snapshotter->prepare("2", "base", {});
  const ClientMount mounted = mount(mounts);
  write_file_at(mounted.dir(), "f", "", 0644);
  EXPECT_EQ(list_dir(open_dir_at(store.layout().snapshots(), "2/fs").get()),
            std::vector<std::string>{"f"});
}

TEST_F(Local, LayersInBothFormsShowTheSame) {
  LayerTar base = base_layer();
  LayerTar top = top_layer();
  const std::string base_bytes = base.bytes();
  const std::string top_bytes = top.bytes();
  std::vector<std::map<std::string, std::string>> seen;
  for (const Form form : {Form::packed, Form::directory}) {
    add_tar("base", "", base_bytes, form);
    add_tar("top", "base", top_bytes, form);
    seen.push_back(tree("base"));
    std::map<std::string, std::string> of_top = tree("top");
    EXPECT_FALSE(of_top.contains("d/one"));
    EXPECT_TRUE(of_top.contains("g"));
    seen.back().merge(of_top);
    {
      const ClientMount container = mount(snapshots().prepare("container", "top", {}));
      EXPECT_EQ(stat_fd(container.dir()).st_mode & 07777U, 0711u);
      write_file_at(container.dir(), "mine", "", 0644);
      EXPECT_EQ(read_file_at(container.dir(), "f", 10), "top");
    }
    for (const char* const name : {"container", "top", "base"}) snapshots().remove(name);
  }
  EXPECT_EQ(seen[0], seen[1]);
  EXPECT_TRUE(names_in(store().layout().layers()).empty());
}

TEST_F(Local, AViewOfOnePackedLayerRunsPrograms) {
  LayerTar base = base_layer();
  add_layer("base", "", base);
  const auto mounts = snapshots().view("view", "base", {});
  ASSERT_EQ(mounts.size(), 1u);
  EXPECT_EQ(mounts[0].type, "overlay");
  const ClientMount view = mount(mounts);
  EXPECT_EQ(stat_fd(view.dir()).st_uid, 3u);
  const int status = ::system((path_of(view.dir()) + "/program").c_str());
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(Local, AStagedSnapshotIsReadAndCommitted) {
  LayerTar base = base_layer();
  LayerTar top = top_layer();
  add_layer("base", "", base);
  const std::string bytes = top.bytes();
  const VariantRecord variant = add_tar("staged", "base", bytes, Form::packed, Kind::active);
  {
    const ClientMount staged = mount(snapshots().mounts("staged"));
    EXPECT_EQ(read_file_at(staged.dir(), "f", 10), "top");
    EXPECT_THROW(write_file_at(staged.dir(), "x", "", 0644), SysError);
  }
  EXPECT_EQ(snapshots().usage("staged"), variant.usage);
  snapshots().commit("top", "staged", {});
  EXPECT_EQ(snapshots().usage("top"), variant.usage);
  EXPECT_TRUE(tree("top").contains("g"));
  // One that stands alone has the same mount as a view.
  LayerTar single;
  add_tar("alone", "", single.file("single", "").bytes(), Form::packed, Kind::active);
  EXPECT_EQ(snapshots().mounts("alone")[0].type, "overlay");
  EXPECT_EQ(read_file_at(mount(snapshots().mounts("alone")).dir(), "single", 10), "");
  snapshots().remove("alone");
}

// --- lowers ---

TEST_F(Local, MountsOutliveTheProcessButNotAReboot) {
  LayerTar base = base_layer();
  LayerTar top = top_layer();
  const VariantRecord packed = add_layer("base", "", base);
  EXPECT_FALSE(is_mounted(packed));
  const VariantRecord directory = add_layer("top", "base", top, Form::directory);
  const auto mounts = snapshots().prepare("container", "top", {});
  EXPECT_TRUE(is_mounted(packed));
  const auto inode = stat_fd(open_root(store().lowers().path(packed)).get()).st_dev;
  reopen();
  EXPECT_TRUE(is_mounted(packed));
  EXPECT_EQ(snapshots().mounts("container"), mounts);
  EXPECT_EQ(stat_fd(open_root(store().lowers().path(packed)).get()).st_dev, inode);
  reboot();
  EXPECT_FALSE(is_mounted(packed));
  EXPECT_EQ(snapshots().mounts("container"), mounts);
  EXPECT_TRUE(is_mounted(packed));
  EXPECT_FALSE(is_mounted(directory));
  EXPECT_EQ(read_file_at(mount(mounts).dir(), "f", 10), "top");
}

TEST_F(Local, OneLayerIsMountedOnceHoweverManyAsk) {
  LayerTar base = base_layer();
  const VariantRecord variant = add_layer("base", "", base);
  std::vector<pid_t> children;
  opened_.reset();
  for (int i = 0; i < 8; ++i) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    const Opened own(scratch_.path());
    try {
      own.snapshotter->prepare(fmt::format("container {}", i), "base", {});
      ::_exit(0);
    } catch (const std::exception& error) {
      fmt::print(stderr, "{}\n", error.what());
      ::_exit(1);
    }
  }
  expect_success(children);
  reopen();
  ASSERT_TRUE(is_mounted(variant));
  const UniqueFd run = open_root(store().lowers().directory());
  const RelPath name = RelPath::parse(std::to_string(variant.id));
  EXPECT_TRUE(unmount_at(run.get(), name));
  EXPECT_FALSE(is_mounted(variant));  // there was but one
  size_t count = 0;
  snapshots().walk({"kind==active"}, [&](const SnapshotInfo&) { ++count; });
  EXPECT_EQ(count, 8u);
}

TEST_F(Local, ALayerGoesWithItsLastSnapshot) {
  LayerTar base = base_layer();
  const std::string bytes = base.bytes();
  const VariantRecord variant = add_tar("one", "", bytes, Form::packed);
  add_tar("two", "", bytes, Form::packed);
  snapshots().prepare("container", "one", {});
  {
    const ClientMount busy = mount(snapshots().mounts("container"));
    snapshots().remove("container");
    snapshots().remove("one");
    EXPECT_TRUE(is_mounted(variant));
    EXPECT_EQ(names_in(store().layout().layers()).size(), 1u);
    snapshots().remove("two");
    EXPECT_FALSE(is_mounted(variant));
    EXPECT_TRUE(names_in(store().layout().layers()).empty());
    EXPECT_FALSE(exists_at(open_root(store().lowers().directory()).get(),
                           RelPath::parse(std::to_string(variant.id))));
    // What has it mounted reads on.
    EXPECT_EQ(read_file_at(busy.dir(), "f", 10), "base");
  }
  EXPECT_FALSE(names_in(store().layout().trash()).empty());
  snapshots().cleanup();
  EXPECT_TRUE(names_in(store().layout().trash()).empty());
  // And comes again.
  const VariantRecord again = add_tar("one", "", bytes, Form::packed);
  EXPECT_NE(again.id, variant.id);
  EXPECT_TRUE(tree("one").contains("f"));
}

TEST_F(Local, WhatIsMissingIsCorruption) {
  LayerTar base = base_layer();
  LayerTar top = top_layer();
  const VariantRecord packed = add_layer("packed", "", base);
  const VariantRecord directory = add_layer("directory", "", top, Form::directory);
  snapshots().prepare("1", "", {});
  snapshots().commit("plain", "1", {});
  const Layout& layout = store().layout();
  {
    const UniqueFd layer = open_dir_at(layout.layers(), Layout::digest_name(packed.diff_id));
    unlink_at(layer.get(), kLayerTarName);
  }
  (void)remove_tree_at(open_dir_at(layout.layers(), Layout::digest_name(directory.diff_id)).get(),
                       kLayerTreeName);
  for (const char* const parent : {"packed", "directory"}) {
    EXPECT_EQ(code_of([&] { snapshots().prepare("new", parent, {}); }), Code::corrupt) << parent;
    EXPECT_EQ(code_of([&] { snapshots().stat("new"); }), Code::not_found);
  }
  // Nothing of a failed preparation stays.
  EXPECT_EQ(names_in(layout.snapshots()), std::vector<std::string>{"3"});
  EXPECT_TRUE(names_in(layout.staging()).empty());
  snapshots().prepare("active", "", {});
  (void)remove_tree_at(layout.snapshots(), "4");
  EXPECT_EQ(code_of([&] { snapshots().usage("active"); }), Code::corrupt);
  EXPECT_EQ(code_of([&] { snapshots().commit("c", "active", {}); }), Code::corrupt);
  snapshots().remove("active");
}

// --- the store ---

TEST_F(Local, SpacesAreApart) {
  const auto other = open_snapshotter(store(), "other");
  snapshots().prepare("key", "", {});
  EXPECT_EQ(code_of([&] { other->stat("key"); }), Code::not_found);
  other->prepare("key", "", {});
  other->commit("base", "key", {});
  EXPECT_EQ(code_of([&] { snapshots().prepare("x", "base", {}); }), Code::not_found);
  size_t count = 0;
  other->walk({}, [&](const SnapshotInfo& info) {
    EXPECT_EQ(info.name, "base");
    ++count;
  });
  EXPECT_EQ(count, 1u);
  EXPECT_EQ(code_of([&] { (void)open_snapshotter(store(), ""); }), Code::invalid_argument);
}

TEST_F(Local, TheStoreMountsForItself) {
  LayerTar base = base_layer();
  add_layer("base", "", base);
  snapshots().prepare("container", "base", {});
  snapshots().prepare("alone", "", {});
  snapshots().view("view", "", {});
  snapshots().view("packed view", "base", {});
  for (const char* const key : {"container", "alone", "view", "packed view"}) {
    const std::string path = store().mount(kSpace, key);
    EXPECT_TRUE(path.ends_with("/merged"));
    EXPECT_EQ(store().mount(kSpace, key), path);
    const UniqueFd dir = open_root(path);
    const bool is_view = std::string_view(key).contains("view");
    EXPECT_EQ(code_of([&] {
                write_file_at(dir.get(), "x", "", 0644);
                fail(Code::not_found, "written");
              }),
              is_view ? Code::io : Code::not_found)
        << key;
  }
  const UniqueFd busy = open_root(store().mount(kSpace, "alone"));
  EXPECT_EQ(code_of([&] { store().unmount(kSpace, "alone"); }), Code::failed_precondition);
  EXPECT_TRUE(store().unmount(kSpace, "container"));
  EXPECT_FALSE(store().unmount(kSpace, "container"));
  EXPECT_EQ(code_of([&] { store().mount(kSpace, "none"); }), Code::not_found);
  EXPECT_EQ(code_of([&] { store().mount(kSpace, "base"); }), Code::failed_precondition);
  EXPECT_EQ(code_of([&] { store().unmount(kSpace, "none"); }), Code::not_found);
  // Mounted or not, it can go.
  for (const char* const key : {"container", "alone", "view", "packed view"})
    snapshots().remove(key);
  snapshots().cleanup();
  EXPECT_TRUE(names_in(store().layout().trash()).empty());
}

TEST_F(Local, LayersAreWritten) {
  LayerTar base = base_layer();
  const std::string base_bytes = base.bytes();
  add_tar("base", "", base_bytes, Form::packed);
  const auto id_of = [&](const std::string& key) {
    return store().meta().read().maybe_snapshot(kSpace, key)->id;
  };
  StringSink exact;
  store().write_layer(id_of("base"), exact);
  EXPECT_EQ(exact.text(), base_bytes);

  {
    const ClientMount container = mount(snapshots().prepare("container", "base", {}));
    unlink_at(container.dir(), "f");
    write_file_at(container.dir(), "d/two", "22", 0600);
  }
  StringSink active;
  store().write_layer(id_of("container"), active);
  snapshots().commit("top", "container", {});
  StringSink committed;
  store().write_layer(id_of("top"), committed);
  EXPECT_EQ(active.text(), committed.text());
  // The layer makes the same of its parent as the snapshot is.
  add_tar("again", "base", committed.text(), Form::packed);
  std::map<std::string, std::string> top = tree("top");
  std::map<std::string, std::string> again = tree("again");
  // Layer tars have whole seconds.
  for (auto* lines : {&top, &again}) {
    lines->erase(".");
    lines->erase("d");
    lines->erase("d/two");
  }
  EXPECT_EQ(top, again);
  EXPECT_FALSE(top.contains("f"));

  snapshots().prepare("alone", "", {});
  snapshots().view("view", "base", {});
  for (const char* const key : {"alone", "view"}) {
    StringSink nothing;
    store().write_layer(id_of(key), nothing);
    EXPECT_EQ(nothing.text(), LayerTar().bytes()) << key;
  }
}

TEST_F(Local, TheFormIsAskedForOrProbed) {
  EXPECT_EQ(store().form() == Form::packed, store().why_not_packed().empty());
  StoreOptions options = options_in(scratch_.path());
  options.form = Form::directory;
  Store directory(options);
  EXPECT_EQ(directory.form(), Form::directory);
  // Nothing can be mounted from a tmpfs.
  make_dir_at(scratch_.dir(), "tmpfs", 0700);
  const std::string tmpfs = scratch_.path() + "/tmpfs";
  ASSERT_EQ(::mount("tmpfs", tmpfs.c_str(), "tmpfs", 0, nullptr), 0);
  {
    Store store({.root = tmpfs + "/root", .run = tmpfs + "/run", .is_volatile = true, .form = {}});
    EXPECT_EQ(store.form(), Form::directory);
    EXPECT_TRUE(store.why_not_packed().contains("tmpfs")) << store.why_not_packed();
    EXPECT_TRUE(list_dir(store.layout().staging()).empty());
  }
  EXPECT_EQ(::umount2(tmpfs.c_str(), 0), 0);
}

TEST_F(Local, ATooDeepChainIsRefused) {
  std::string parent;
  for (size_t i = 0; i < limits::kSnapshotDepth; ++i) {
    const std::string name = std::to_string(i);
    snapshots().prepare("k" + name, parent, {});
    snapshots().commit(name, "k" + name, {});
    parent = name;
  }
  snapshots().prepare("last", parent, {});
  (void)store().mount(kSpace, "last");
  snapshots().commit("last layer", "last", {});
  EXPECT_EQ(code_of([&] { snapshots().prepare("more", "last layer", {}); }),
            Code::resource_exhausted);
  snapshots().prepare("alone", "", {});
  EXPECT_EQ(
      code_of([&] { snapshots().commit("c", "alone", {.labels = {}, .parent = "last layer"}); }),
      Code::resource_exhausted);
  EXPECT_TRUE(store().unmount(kSpace, "last layer"));
}

}  // namespace
}  // namespace veneer

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  veneer::test::register_snapshotter_suite("LocalSuite", veneer::open_local);
  return RUN_ALL_TESTS();
}
