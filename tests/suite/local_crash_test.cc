// What crashes and power cuts leave of a store, and several processes at once.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "base/failpoint.h"
#include "store/check.h"
#include "tests/suite/local_snapshotter.h"

namespace veneer {
namespace {

using test::base_layer;
using test::ClientMount;
using test::kSpace;
using test::LayerTar;
using test::Local;
using test::Opened;
using test::top_layer;

TEST_F(Local, AMarkTellsThatTheStoreIsOpen) {
  EXPECT_EQ(marks().size(), 1u);
  {
    const Opened other(scratch_.path());
    EXPECT_EQ(marks().size(), 2u);
  }
  EXPECT_EQ(marks().size(), 1u);
}

TEST_F(Local, OrphansAreLookedForOnlyAfterADeath) {
  const auto make_orphans = [&] {
    make_dir_at(store().layout().snapshots(), "4711", 0700);
    make_dir_at(store().layout().layers(), "0123", 0700);
    make_dir_at(open_root(store().lowers().directory()).get(), "4712", 0700);
    make_dir_at(store().layout().snapshots(), "not-ours", 0700);
  };
  make_orphans();
  reopen();
  EXPECT_TRUE(exists_at(store().layout().snapshots(), "4711"));
  write_file_at(open_dir_at(store().layout().root(), "opened").get(), "dead", "", 0600);
  snapshots().prepare("kept", "", {});
  {
    const Opened second(scratch_.path());  // though another has the store open
    EXPECT_FALSE(exists_at(store().layout().snapshots(), "4711"));
  }
  EXPECT_FALSE(exists_at(store().layout().layers(), "0123"));
  EXPECT_FALSE(exists_at(open_root(store().lowers().directory()).get(), "4712"));
  EXPECT_TRUE(exists_at(store().layout().snapshots(), "not-ours"));
  EXPECT_TRUE(exists_at(open_root(store().lowers().directory()).get(), "lock"));
  EXPECT_TRUE(list_dir(store().layout().trash()).empty());
  EXPECT_EQ(marks().size(), 1u);
  EXPECT_EQ(names_in(store().layout().snapshots()).size(), 2u);
}

// Nor a mount that somebody left in a snapshot; it is detached, not followed.
TEST_F(Local, TrashThatCannotBeDeletedKeepsNobodyOut) {
  const UniqueFd precious = scratch_.make("precious");
  write_file_at(precious.get(), "data", "", 0644);
  const UniqueFd trash = dup_fd(store().layout().trash());
  for (const PathView path : {PathView("stuck"), PathView("mounted"), PathView("mounted/fs")})
    make_dir_at(trash.get(), path, 0700);
  write_file_at(trash.get(), "stuck/f", "", 0644);
  test::set_immutable(trash.get(), "stuck/f", true);
  ASSERT_EQ(::mount((scratch_.path() + "/precious").c_str(),
                    (path_of(trash.get()) + "/mounted/fs").c_str(), "", MS_BIND, nullptr),
            0);
  write_file_at(open_dir_at(store().layout().root(), "opened").get(), "dead", "", 0600);
  reopen();
  EXPECT_EQ(marks().size(), 1u);
  EXPECT_EQ(list_dir(trash.get()), std::vector<std::string>{"stuck"});
  EXPECT_TRUE(exists_at(precious.get(), "data"));
  snapshots().prepare("key", "", {});
  test::set_immutable(trash.get(), "stuck/f", false);
  snapshots().cleanup();
  EXPECT_TRUE(list_dir(trash.get()).empty());
}

TEST_F(Local, TrashIsLeftToAThreadIfAsked) {
  make_dir_at(store().layout().trash(), "much", 0700);
  write_file_at(open_dir_at(store().layout().root(), "opened").get(), "dead", "", 0600);
  StoreOptions options = test::options_in(scratch_.path());
  options.leaves_trash = true;
  const Store other(options);
  EXPECT_EQ(marks().size(), 2u);
  EXPECT_TRUE(exists_at(store().layout().trash(), "much"));
}

TEST_F(Local, WhatAPowerCutTookOfNewSnapshotsIsMadeAnew) {
  LayerTar base;
  base.dir(".", {.mode = 0711, .xattrs = {{"user.mark", "here"}}}).file("f", "base");
  add_layer("base", "", base);
  snapshots().prepare("container", "base", {});
  snapshots().prepare("bare", "", {});
  snapshots().view("seen", "base", {});
  snapshots().prepare("kept", "base", {});
  write_file_at(store().layout().open_upper(id_of("kept")).get(), "g", "mine", 0644);
  {
    const ClientMount writing = mount(snapshots().prepare("writing", "", {}));
    write_file_at(writing.dir(), "f", "text", 0644);
  }
  snapshots().commit("layer", "writing", {});
  for (const char* name : {"container", "bare", "seen", "layer"})
    (void)remove_tree_at(store().layout().snapshots(), Layout::snapshot_name(id_of(name)));

  reboot();  // no process died with the store open: that is damage
  EXPECT_EQ(names_in(store().layout().snapshots()).size(), 1u);
  write_file_at(open_dir_at(store().layout().root(), "opened").get(), "dead", "", 0600);
  reboot();
  EXPECT_EQ(names_in(store().layout().snapshots()).size(), 4u);
  // What was committed had been synced.
  EXPECT_FALSE(exists_at(store().layout().snapshots(), Layout::snapshot_name(id_of("layer"))));
  EXPECT_EQ(check_store(store(), {}).damages.size(), 1u);

  const ClientMount container = mount(snapshots().mounts("container"));
  EXPECT_EQ(read_file_at(container.dir(), "f", 9), "base");
  EXPECT_EQ(stat_fd(container.dir()).st_mode & 07777U, 0711U);
  EXPECT_EQ(maybe_xattr_at(container.dir(), ".", "user.mark"), "here");
  write_file_at(container.dir(), "new", "text", 0644);
  EXPECT_TRUE(list_dir(mount(snapshots().mounts("bare")).dir()).empty());
  EXPECT_EQ(read_file_at(mount(snapshots().mounts("seen")).dir(), "f", 9), "base");
  EXPECT_EQ(read_file_at(mount(snapshots().mounts("kept")).dir(), "g", 9), "mine");
}

// Though a layer below one of them is damaged.
TEST_F(Local, WhatCannotBeMadeAnewIsLeftToTheCheck) {
  LayerTar base = base_layer();
  const VariantRecord variant = add_layer("base", "", base);
  snapshots().prepare("container", "base", {});
  snapshots().prepare("bare", "", {});
  for (const char* name : {"container", "bare"})
    (void)remove_tree_at(store().layout().snapshots(), Layout::snapshot_name(id_of(name)));
  (void)remove_tree_at(store().layout().layers(), Layout::digest_name(variant.diff_id));
  write_file_at(open_dir_at(store().layout().root(), "opened").get(), "dead", "", 0600);
  reboot();
  EXPECT_EQ(names_in(store().layout().snapshots()), names_of({"bare"}));
  EXPECT_TRUE(names_in(store().layout().staging()).empty());
  EXPECT_EQ(marks().size(), 1u);
}

// Where the journal is in order one sync is enough for all that a process makes: that of its mark.
TEST_F(Local, NewSnapshotsAreNotSynced) {
  const auto syncs = [&](const std::string& key) {
    failpoint::arm({.at = UINT64_MAX, .error_number = 0, .name = "fsync"});
    snapshots().prepare(key, "", {});
    return failpoint::disarm();
  };
  const bool is_in_order = store().layout().is_journal_in_order();
  EXPECT_EQ(syncs("first"), is_in_order ? 1u : 2u);
  EXPECT_EQ(syncs("second"), is_in_order ? 0u : 2u);
  opened_.reset();
  opened_ = std::make_unique<Opened>(scratch_.path(), true);
  EXPECT_EQ(syncs("third"), 0u);
}

// Of each snapshot a directory, of each directory a snapshot; nothing else.
class Crash : public Local {
 protected:
  // Runs `operation` on the store in a process of its own, that dies at the n-th failpoint, for
  // each n until it gets through; `check` after each, on a store opened anew.
  void die_everywhere(const std::function<void(Snapshotter&)>& operation,
                      const std::function<void(bool is_done)>& check) {
    opened_.reset();
    for (uint64_t at = 1;; ++at) {
      const pid_t child = ::fork();
      ASSERT_GE(child, 0);
      if (child == 0) run_and_die(operation, at);
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      reopen();
      const bool is_done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
      ASSERT_TRUE(is_done || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) << status;
      check(is_done);
      EXPECT_EQ(marks().size(), 1u) << "killed at " << at;
      opened_.reset();
      if (is_done) break;
      ASSERT_LT(at, 1000u);
    }
    reopen();
  }
  [[noreturn]] void run_and_die(const std::function<void(Snapshotter&)>& operation, uint64_t at) {
    try {
      Opened opened(scratch_.path());
      failpoint::arm({.at = at, .error_number = 0});
      operation(*opened.snapshotter);
      ::_exit(0);  // without closing the store: its mark stays
    } catch (const std::exception& error) {
      fmt::print(stderr, "{}\n", error.what());
      ::_exit(1);
    }
  }

  void expect_order(size_t snapshots_expected) {
    std::vector<std::string> ids;
    for (const SnapshotRecord& snapshot : store().meta().read().list_snapshots("", 0, 100))
      if (!snapshot.variant) ids.push_back(std::to_string(snapshot.id));
    std::ranges::sort(ids);
    EXPECT_EQ(ids, names_in(store().layout().snapshots()));
    EXPECT_EQ(ids.size(), snapshots_expected);
    EXPECT_TRUE(names_in(store().layout().staging()).empty());
    EXPECT_TRUE(names_in(store().layout().trash()).empty());
  }
};

TEST_F(Crash, Prepare) {
  LayerTar base = base_layer();
  add_layer("base", "", base);
  die_everywhere(
      [](Snapshotter& s) { s.prepare("new", "base", {}); },
      [&](bool is_done) {
        bool is_there = false;
        snapshots().walk({"kind==active"}, [&](const SnapshotInfo&) { is_there = true; });
        EXPECT_TRUE(is_there || !is_done);
        expect_order(is_there ? 1 : 0);
        if (is_there) {
          EXPECT_EQ(read_file_at(mount(snapshots().mounts("new")).dir(), "f", 9), "base");
          if (!is_done) snapshots().remove("new");
        }
      });
}

TEST_F(Crash, Commit) {
  const auto again = [&] {
    const ClientMount active = mount(snapshots().prepare("active", "", {}));
    write_file_at(active.dir(), "f", "text", 0644);
  };
  again();
  die_everywhere([](Snapshotter& s) { s.commit("name", "active", {}); },
                 [&](bool is_done) {
                   expect_order(1);
                   std::string name;
                   snapshots().walk({}, [&](const SnapshotInfo& info) { name = info.name; });
                   EXPECT_TRUE(name == "name" || (!is_done && name == "active")) << name;
                   if (name == "name") {
                     EXPECT_EQ(tree("name").size(), 2u);
                     snapshots().remove("name");
                     again();
                   }
                 });
}

TEST_F(Crash, Remove) {
  LayerTar base = base_layer();
  const std::string bytes = base.bytes();
  VariantRecord variant = add_tar("packed", "", bytes, Form::packed);
  (void)store().lowers().path(variant);
  snapshots().prepare("active", "", {});
  (void)store().mount(kSpace, "active");
  die_everywhere(
      [](Snapshotter& s) { s.walk({}, [&](const SnapshotInfo& info) { s.remove(info.name); }); },
      [&](bool is_done) {
        bool has_active = false;
        bool has_packed = false;
        snapshots().walk({}, [&](const SnapshotInfo& info) {
          has_active |= info.name == "active";
          has_packed |= info.name == "packed";
        });
        EXPECT_TRUE(!is_done || (!has_active && !has_packed));
        expect_order(has_active ? 1 : 0);
        EXPECT_EQ(names_in(store().layout().layers()).size(), has_packed ? 1u : 0u);
        EXPECT_EQ(is_mounted(variant), has_packed);
        if (is_done) return;
        if (!has_packed) {
          variant = add_tar("packed", "", bytes, Form::packed);
          (void)store().lowers().path(variant);
        }
        if (!has_active) snapshots().prepare("active", "", {});
        (void)store().mount(kSpace, "active");
      });
}

TEST_F(Crash, AFailureLeavesWhatTheNextOneClears) {
  for (const int error_number : {EIO, ENOSPC}) {
    for (uint64_t at = 1;; ++at) {
      snapshots().prepare("old", "", {});
      failpoint::arm({.at = at, .error_number = error_number});
      bool is_done = false;
      try {
        snapshots().remove("old");
        snapshots().prepare("new", "", {});
        is_done = true;
      } catch (const SysError& error) {
        EXPECT_EQ(error.error_number(), error_number) << error.what();
      } catch (const Error&) {
      }
      const bool was_hit = failpoint::disarm() >= at;
      EXPECT_TRUE(is_done || was_hit);
      // Where the sync of a commit failed, it may be there for the next to open the store only.
      for (const bool is_reopened : {false, true}) {
        if (is_reopened) reopen();
        std::vector<std::string> keys;
        snapshots().walk({}, [&](const SnapshotInfo& info) { keys.push_back(info.name); });
        EXPECT_LE(keys.size(), 1u);
        for (const std::string& key : keys) snapshots().remove(key);
      }
      snapshots().cleanup();
      expect_order(0);
      if (!was_hit) break;
      ASSERT_LT(at, 1000u);
    }
  }
}

TEST_F(Local, ManyProcessesAtOnce) {
  LayerTar base = base_layer();
  const std::string bytes = base.bytes();
  add_tar("base", "", bytes, Form::packed);
  opened_.reset();
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    try {
      for (int round = 0; round < 5; ++round) {
        opened_ = std::make_unique<Opened>(scratch_.path());
        const std::string key = fmt::format("{} {}", i, round);
        snapshots().prepare(key, "base", {});
        // The same layer comes and goes in all of them.
        LayerTar top = top_layer();
        add_tar(key + " top", "base", top.bytes(), Form::packed);
        snapshots().view(key + " view", key + " top", {});
        snapshots().remove(key + " view");
        snapshots().remove(key + " top");
        snapshots().commit(key + " done", key, {});
        snapshots().remove(key + " done");
        snapshots().cleanup();
        opened_.reset();
      }
      ::_exit(testing::Test::HasFailure() ? 1 : 0);
    } catch (const std::exception& error) {
      fmt::print(stderr, "{}\n", error.what());
      ::_exit(1);
    }
  }
  expect_success(children);
  reopen();
  EXPECT_TRUE(tree("base").contains("f"));
  EXPECT_TRUE(names_in(store().layout().snapshots()).empty());
  EXPECT_EQ(names_in(store().layout().layers()).size(), 1u);
  EXPECT_EQ(marks().size(), 1u);
}

}  // namespace
}  // namespace veneer
