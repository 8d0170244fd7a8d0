#include "tests/suite/snapshotter_suite.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/limits.h"
#include "mount/overlay.h"
#include "tests/support/code_of.h"
#include "tests/support/tree.h"

namespace veneer::test {

namespace {

// A page of options is all that mount(2) takes.
constexpr size_t kPageBytes = 4096;

// Clients change directory to shorten what is longer; here that would be in the way of threads.
void mount_long_overlay(const Mount& mount, const std::string& target) {
  OverlaySpec spec;
  for (const std::string& option : mount.options) {
    const std::string value = option.substr(option.find('=') + 1);
    if (option.starts_with("lowerdir=")) {
      for (size_t at = 0; at <= value.size();) {
        const size_t end = std::min(value.find(':', at), value.size());
        spec.lower.push_back(value.substr(at, end - at));
        at = end + 1;
      }
    } else if (option.starts_with("upperdir=")) {
      spec.upper = value;
    } else if (option.starts_with("workdir=")) {
      spec.work = value;
    } else {
      spec.options.push_back(option);
    }
  }
  attach_mount(mount_overlay(spec).get(), open_root(target).get(), ".");
}

void mount_one(const Mount& mount, const std::string& target) {
  unsigned long flags = 0;
  std::vector<std::string> data;
  for (const std::string& option : mount.options) {
    if (option == "rbind")
      flags |= MS_BIND | MS_REC;
    else if (option == "ro")
      flags |= MS_RDONLY;
    else if (option != "rw")
      data.push_back(option);
  }
  const std::string text = fmt::format("{}", fmt::join(data, ","));
  if (text.size() >= kPageBytes) return mount_long_overlay(mount, target);
  check(::mount(mount.source.c_str(), target.c_str(), mount.type.c_str(), flags, text.c_str()),
        "mount {} with {}", mount.type, text);
  if ((flags & MS_BIND) != 0 && (flags & MS_RDONLY) != 0)
    check(::mount(nullptr, target.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr),
          "remount {} read-only", target);
}

using Tree = std::map<std::string, std::string>;
using Change = std::function<void(int dir)>;

class SnapshotterTest : public testing::Test {
 public:
  SnapshotterTest(SnapshotterFactory open, std::function<void(SnapshotterTest&)> body)
      : open_(std::move(open)), body_(std::move(body)) {}

  void TestBody() override {
    reopen();
    body_(*this);
    remove_all();
  }

  void reopen() {
    snapshots.reset();
    snapshots = open();
  }
  std::shared_ptr<Snapshotter> open() const { return open_(scratch.path()); }

  ClientMount mount(const std::vector<Mount>& mounts) {
    return {mounts, fmt::format("{}/mount-{}", scratch.path(), next_mount_++)};
  }
  // Prepares, changes and commits.
  void layer(const std::string& name, const std::string& parent, const Change& change,
             const CommitOptions& options = {}) {
    change(mount(snapshots->prepare("making " + name, parent, {})).dir());
    snapshots->commit(name, "making " + name, options);
  }
  // A look at a committed snapshot, through a view of it.
  void look(const std::string& name, const Change& use) {
    use(mount(snapshots->view("looking at " + name, name, {})).dir());
    snapshots->remove("looking at " + name);
  }
  std::string names(const std::string& name) {
    std::string text;
    look(name, [&](int dir) { text = names_of(dir); });
    return text;
  }
  std::string read(const std::string& name, PathView path) {
    std::string text;
    look(name, [&](int dir) { text = read_file_at(dir, path, 1 << 20); });
    return text;
  }
  std::vector<std::string> walked(const std::vector<std::string>& filters = {}) {
    std::vector<std::string> found;
    snapshots->walk(filters, [&](const SnapshotInfo& info) { found.push_back(info.name); });
    std::ranges::sort(found);
    return found;
  }
  template <typename Call>
  static int errno_of(Call call) {
    try {
      call();
    } catch (const SysError& error) {
      return error.error_number();
    }
    return 0;
  }

  Scratch scratch;
  std::shared_ptr<Snapshotter> snapshots;

 private:
  void remove_all() {
    for (size_t left = walked().size(); left > 0;) {
      for (const std::string& name : walked()) {
        try {
          snapshots->remove(name);
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), Code::failed_precondition) << error.what();
        }
      }
      const size_t now = walked().size();
      ASSERT_LT(now, left);
      left = now;
    }
    snapshots->cleanup();
  }

  SnapshotterFactory open_;
  std::function<void(SnapshotterTest&)> body_;
  std::atomic<int> next_mount_ = 0;
};

void put(int dir, PathView path, std::string_view text = "", mode_t mode = 0644) {
  write_file_at(dir, path, text, mode);
}

// --- metadata ---

void a_life(SnapshotterTest& t) {
  const Time before = now();
  const auto mounts = t.snapshots->prepare("key", "", {{"a", "1"}});
  ASSERT_FALSE(mounts.empty());
  EXPECT_EQ(t.snapshots->mounts("key"), mounts);
  {
    const ClientMount mount = t.mount(mounts);
    EXPECT_EQ(names_of(mount.dir()), "");
    put(mount.dir(), "f", "text");
    make_dir_at(mount.dir(), "d", 0750);
    put(mount.dir(), "d/g");
  }
  t.snapshots->commit("one", "key", {.labels = {{"b", "2"}}, .parent = {}});
  const SnapshotInfo one = t.snapshots->stat("one");
  EXPECT_EQ(one.name, "one");
  EXPECT_EQ(one.parent, "");
  EXPECT_EQ(one.kind, Kind::committed);
  EXPECT_EQ(one.labels, (Labels{{"b", "2"}}));
  EXPECT_EQ(one.created, one.updated);
  EXPECT_GE(one.created, before);
  EXPECT_LE(one.created, now());
  EXPECT_EQ(code_of([&] { t.snapshots->stat("key"); }), Code::not_found);

  t.layer("two", "one", [](int dir) {
    EXPECT_EQ(names_of(dir), "d d/g f");
    unlink_at(dir, "f");
    put(dir, "h");
  });
  EXPECT_EQ(t.snapshots->stat("two").parent, "one");
  EXPECT_EQ(t.names("one"), "d d/g f");
  EXPECT_EQ(t.names("two"), "d d/g h");
  EXPECT_EQ(t.read("one", "f"), "text");
}

void stat_tells_of_each_kind(SnapshotterTest& t) {
  t.layer("base", "", [](int) {});
  t.snapshots->prepare("active", "base", {{"l", "active"}});
  t.snapshots->view("view", "base", {{"l", "view"}});
  const SnapshotInfo active = t.snapshots->stat("active");
  EXPECT_EQ(active.name, "active");
  EXPECT_EQ(active.parent, "base");
  EXPECT_EQ(active.kind, Kind::active);
  EXPECT_EQ(active.labels, (Labels{{"l", "active"}}));
  EXPECT_EQ(active.created, active.updated);
  const SnapshotInfo view = t.snapshots->stat("view");
  EXPECT_EQ(view.parent, "base");
  EXPECT_EQ(view.kind, Kind::view);
  EXPECT_EQ(view.labels, (Labels{{"l", "view"}}));
  EXPECT_EQ(t.snapshots->stat("base").kind, Kind::committed);
  EXPECT_EQ(code_of([&] { t.snapshots->stat("none"); }), Code::not_found);
}

void parents_make_a_chain(SnapshotterTest& t) {
  t.layer("1", "", [](int dir) { put(dir, "one"); });
  t.layer("2", "1", [](int dir) { put(dir, "two"); });
  t.layer("3", "2", [](int dir) { put(dir, "three"); });
  EXPECT_EQ(t.snapshots->stat("3").parent, "2");
  EXPECT_EQ(t.snapshots->stat("2").parent, "1");
  EXPECT_EQ(t.snapshots->stat("1").parent, "");
  EXPECT_EQ(t.names("3"), "one three two");
}

void prepare_and_view_refuse(SnapshotterTest& t) {
  t.layer("base", "", [](int) {});
  t.snapshots->prepare("active", "", {});
  for (const bool is_view : {false, true}) {
    const auto make = [&](const std::string& key, const std::string& parent,
                          const Labels& labels = {}) {
      return code_of([&] {
        if (is_view)
          t.snapshots->view(key, parent, labels);
        else
          t.snapshots->prepare(key, parent, labels);
      });
    };
    EXPECT_EQ(make("active", "base"), Code::already_exists);
    EXPECT_EQ(make("base", ""), Code::already_exists);
    EXPECT_EQ(make("new", "none"), Code::not_found);
    EXPECT_EQ(make("new", "active"), Code::invalid_argument);
    EXPECT_EQ(make("", "base"), Code::invalid_argument);
    EXPECT_EQ(make(std::string(limits::kSnapshotKeyBytes + 1, 'k'), ""), Code::invalid_argument);
    EXPECT_EQ(make("new", "", {{"label", std::string(limits::kLabelBytes - 4, 'v')}}),
              Code::invalid_argument);
    EXPECT_EQ(code_of([&] { t.snapshots->stat("new"); }), Code::not_found);
  }
  const std::string longest(limits::kSnapshotKeyBytes, 'k');
  t.snapshots->prepare(longest, "", {{"label", std::string(limits::kLabelBytes - 5, 'v')}});
  EXPECT_EQ(t.snapshots->stat(longest).labels.at("label").size(), limits::kLabelBytes - 5);
}

void mounts_refuse(SnapshotterTest& t) {
  t.layer("base", "", [](int) {});
  EXPECT_EQ(code_of([&] { t.snapshots->mounts("base"); }), Code::failed_precondition);
  EXPECT_EQ(code_of([&] { t.snapshots->mounts("none"); }), Code::not_found);
}

void commit_refuses(SnapshotterTest& t) {
  t.layer("base", "", [](int) {});
  t.layer("other", "", [](int) {});
  t.snapshots->prepare("active", "base", {});
  t.snapshots->prepare("alone", "", {});
  t.snapshots->view("view", "base", {});
  const auto commit = [&](const std::string& name, const std::string& key,
                          const std::string& parent = "") {
    return code_of([&] { t.snapshots->commit(name, key, {.labels = {}, .parent = parent}); });
  };
  EXPECT_EQ(commit("new", "none"), Code::not_found);
  EXPECT_EQ(commit("base", "active"), Code::already_exists);
  EXPECT_EQ(commit("view", "active"), Code::already_exists);
  EXPECT_EQ(commit("active", "active"), Code::already_exists);
  EXPECT_EQ(commit("new", "view"), Code::failed_precondition);
  EXPECT_EQ(commit("new", "base"), Code::failed_precondition);
  EXPECT_EQ(commit("", "active"), Code::invalid_argument);
  EXPECT_EQ(commit("new", "active", "other"), Code::invalid_argument);
  EXPECT_EQ(commit("new", "alone", "none"), Code::not_found);
  EXPECT_EQ(commit("new", "alone", "active"), Code::failed_precondition);
  EXPECT_EQ(commit("new", "alone", "view"), Code::failed_precondition);
  EXPECT_EQ(t.snapshots->stat("active").kind, Kind::active);
  t.snapshots->commit("new", "active", {.labels = {}, .parent = "base"});
  EXPECT_EQ(t.snapshots->stat("new").parent, "base");
}

void commit_can_name_the_parent(SnapshotterTest& t) {
  t.layer("base", "", [](int dir) { put(dir, "base"); });
  t.layer("top", "", [](int dir) { put(dir, "top"); }, {.labels = {{"l", "1"}}, .parent = "base"});
  EXPECT_EQ(t.snapshots->stat("top").parent, "base");
  EXPECT_EQ(t.names("top"), "base top");
  EXPECT_EQ(code_of([&] { t.snapshots->remove("base"); }), Code::failed_precondition);
}

void update_changes_labels_only(SnapshotterTest& t) {
  const Labels labels{{"a", "1"}, {"b", "2"}, {"dotted.key/x", "3"}};
  t.snapshots->prepare("key", "", labels);
  const auto update = [&](const Labels& given, const std::vector<std::string>& fields) {
    SnapshotInfo info;
    info.name = "key";
    info.parent = "ignored";
    info.labels = given;
    const SnapshotInfo updated = t.snapshots->update(info, fields);
    const SnapshotInfo stored = t.snapshots->stat("key");
    EXPECT_EQ(updated.labels, stored.labels);
    EXPECT_EQ(updated.updated, stored.updated);
    EXPECT_GE(stored.updated, stored.created);
    EXPECT_EQ(stored.parent, "");
    return stored.labels;
  };
  EXPECT_EQ(update({{"a", "new"}, {"b", "not"}}, {"labels.a"}),
            (Labels{{"a", "new"}, {"b", "2"}, {"dotted.key/x", "3"}}));
  EXPECT_EQ(update({}, {"labels.b", "labels.none"}), (Labels{{"a", "new"}, {"dotted.key/x", "3"}}));
  EXPECT_EQ(update({{"dotted.key/x", "4"}}, {"labels.dotted.key/x"}),
            (Labels{{"a", "new"}, {"dotted.key/x", "4"}}));
  EXPECT_EQ(update({{"c", "5"}}, {"labels"}), (Labels{{"c", "5"}}));
  EXPECT_EQ(update({{"d", "6"}}, {}), (Labels{{"d", "6"}}));
  EXPECT_EQ(update({}, {}), Labels());

  SnapshotInfo info;
  info.name = "key";
  for (const char* const field : {"name", "parent", "kind", "created", "labelsx", ""})
    EXPECT_EQ(code_of([&] { t.snapshots->update(info, {field}); }), Code::invalid_argument);
  info.labels["k"] = std::string(limits::kLabelBytes, 'v');
  EXPECT_EQ(code_of([&] { t.snapshots->update(info, {}); }), Code::invalid_argument);
  info.name = "none";
  EXPECT_EQ(code_of([&] { t.snapshots->update(info, {"labels"}); }), Code::not_found);
  EXPECT_EQ(t.snapshots->stat("key").labels, Labels());
  // All together too, however they came.
  constexpr size_t kMost = limits::kLabelsBytes / limits::kLabelBytes;
  const auto add = [&](size_t index) {
    const std::string key = fmt::format("{:04}", index);
    info.labels = {{key, std::string(limits::kLabelBytes - key.size(), 'v')}};
    t.snapshots->update(info, {"labels." + key});
  };
  info.name = "key";
  for (size_t index = 0; index < kMost; ++index) add(index);
  EXPECT_EQ(code_of([&] { add(kMost); }), Code::invalid_argument);
  EXPECT_EQ(t.snapshots->stat("key").labels.size(), kMost);
  info.labels.clear();
  t.snapshots->update(info, {});
  // Committed ones too.
  t.snapshots->commit("name", "key", {});
  info = t.snapshots->stat("name");
  info.labels = {{"after", "1"}};
  EXPECT_EQ(t.snapshots->update(info, {}).labels, info.labels);
}

void remove_goes_from_the_top(SnapshotterTest& t) {
  t.layer("1", "", [](int) {});
  t.layer("2", "1", [](int) {});
  t.snapshots->prepare("active", "2", {});
  t.snapshots->view("view", "2", {});
  for (const char* const name : {"1", "2"}) {
    EXPECT_EQ(code_of([&] { t.snapshots->remove(name); }), Code::failed_precondition);
    EXPECT_EQ(t.snapshots->stat(name).name, name);
  }
  try {
    t.snapshots->remove("1");
  } catch (const Error& error) {
    EXPECT_TRUE(error.message().contains("remove"));  // what containerd's own test looks for
  }
  EXPECT_EQ(code_of([&] { t.snapshots->remove("none"); }), Code::not_found);
  for (const char* const name : {"active", "view", "2", "1"}) {
    t.snapshots->remove(name);
    EXPECT_EQ(code_of([&] { t.snapshots->remove(name); }), Code::not_found);
  }
  t.snapshots->prepare("1", "", {});  // free again
}

void an_intermediate_snapshot_can_go(SnapshotterTest& t) {
  t.layer("base", "", [](int dir) { put(dir, "base"); });
  t.snapshots->prepare("middle", "base", {});
  t.snapshots->commit("committed middle", "middle", {});
  t.snapshots->prepare("top", "committed middle", {});
  EXPECT_EQ(code_of([&] { t.snapshots->remove("committed middle"); }), Code::failed_precondition);
  t.snapshots->remove("top");
  t.snapshots->remove("committed middle");
  EXPECT_EQ(t.names("base"), "base");
}

void walk_takes_filters(SnapshotterTest& t) {
  t.layer("c1", "", [](int) {}, {.labels = {{"app", "web"}}, .parent = {}});
  t.layer("c2", "c1", [](int) {}, {.labels = {{"app", "db"}, {"x.y/z", "1"}}, .parent = {}});
  t.snapshots->prepare("a1", "c1", {{"app", "web"}});
  t.snapshots->view("v1", "c2", {});
  using Names = std::vector<std::string>;
  EXPECT_EQ(t.walked(), (Names{"a1", "c1", "c2", "v1"}));
  EXPECT_EQ(t.walked({"kind==committed"}), (Names{"c1", "c2"}));
  EXPECT_EQ(t.walked({"kind==view", "kind==active"}), (Names{"a1", "v1"}));
  EXPECT_EQ(t.walked({"labels.app==web"}), (Names{"a1", "c1"}));
  EXPECT_EQ(t.walked({"labels.app==web,kind==active"}), (Names{"a1"}));
  EXPECT_EQ(t.walked({"labels.\"x.y/z\""}), (Names{"c2"}));
  EXPECT_EQ(t.walked({"name~=^c"}), (Names{"c1", "c2"}));
  EXPECT_EQ(t.walked({"parent==c1"}), (Names{"a1", "c2"}));
  EXPECT_EQ(t.walked({"parent==\"\""}), (Names{"c1"}));
  EXPECT_EQ(t.walked({"kind==none"}), Names());
  EXPECT_EQ(code_of([&] { t.walked({"kind="}); }), Code::invalid_argument);
}

void a_walk_can_ask_on(SnapshotterTest& t) {
  std::set<std::string> expected;
  for (int i = 0; i < 250; ++i) {  // several pages
    const std::string key = fmt::format("key {}", i);
    t.snapshots->prepare(key, "", {});
    expected.insert(key);
  }
  std::set<std::string> seen;
  t.snapshots->walk({}, [&](const SnapshotInfo& info) {
    EXPECT_EQ(t.snapshots->stat(info.name).created, info.created);
    EXPECT_TRUE(seen.insert(info.name).second);
    if (info.name == "key 7") t.snapshots->remove(info.name);
  });
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(t.walked().size(), 249u);
}

void usage_is_of_one_snapshot_alone(SnapshotterTest& t) {
  const std::string megabyte(1 << 20, 'x');
  t.layer("base", "", [&](int dir) {
    put(dir, "big", megabyte);
    link_at(dir, "big", dir, "again");
    make_dir_at(dir, "d", 0755);
  });
  const Usage base = t.snapshots->usage("base");
  EXPECT_EQ(base.inodes, 3u);  // the top, the file and the directory
  EXPECT_GE(base.size_bytes, megabyte.size());
  EXPECT_LT(base.size_bytes, megabyte.size() + 65536);

  const auto mounts = t.snapshots->prepare("active", "base", {});
  const Usage empty = t.snapshots->usage("active");
  EXPECT_EQ(empty.inodes, 1u);
  EXPECT_LT(empty.size_bytes, 65536u);
  {
    const ClientMount mount = t.mount(mounts);
    put(mount.dir(), "more", megabyte);
    sync_file_system(mount.dir());  // blocks are counted when they are there
    EXPECT_GE(t.snapshots->usage("active").size_bytes, megabyte.size());
    EXPECT_EQ(t.snapshots->usage("active").inodes, 2u);
  }
  t.snapshots->commit("top", "active", {});
  EXPECT_EQ(t.snapshots->usage("top").inodes, 2u);
  EXPECT_EQ(t.snapshots->usage("base"), base);
  t.snapshots->view("view", "top", {});
  EXPECT_LT(t.snapshots->usage("view").size_bytes, 65536u);
  EXPECT_EQ(code_of([&] { t.snapshots->usage("none"); }), Code::not_found);
}

void what_is_closed_is_found_again(SnapshotterTest& t) {
  t.layer("base", "", [](int dir) { put(dir, "f", "kept"); });
  const auto mounts = t.snapshots->prepare("active", "base", {{"l", "1"}});
  for (int i = 0; i < 2; ++i) {
    t.reopen();
    EXPECT_EQ(t.snapshots->mounts("active"), mounts);
    EXPECT_EQ(t.snapshots->stat("active").labels, (Labels{{"l", "1"}}));
  }
  EXPECT_EQ(t.read("base", "f"), "kept");
}

// --- files ---

void files_are_updated_layer_by_layer(SnapshotterTest& t) {
  t.layer("1", "", [](int dir) {
    put(dir, "foo", "one");
    make_dir_at(dir, "etc", 0755);
    put(dir, "etc/passwd", "root");
  });
  t.layer("2", "1", [](int dir) {
    unlink_at(dir, "foo");
    put(dir, "foo", "two");
    write_all_at(open_at(dir, "etc/passwd", O_WRONLY).get(), std::as_bytes(std::span("R", 1)), 0);
  });
  t.layer("3", "2", [](int dir) {
    set_size(open_at(dir, "foo", O_WRONLY).get(), 1);
    chmod_at(dir, "etc/passwd", 0600);
  });
  EXPECT_EQ(t.read("1", "foo"), "one");
  EXPECT_EQ(t.read("2", "foo"), "two");
  EXPECT_EQ(t.read("3", "foo"), "t");
  EXPECT_EQ(t.read("1", "etc/passwd"), "root");
  EXPECT_EQ(t.read("2", "etc/passwd"), "Root");
  EXPECT_EQ(t.read("3", "etc/passwd"), "Root");
  t.look("2", [](int dir) { EXPECT_EQ(stat_at(dir, "etc/passwd").st_mode & 07777U, 0644u); });
  t.look("3", [](int dir) { EXPECT_EQ(stat_at(dir, "etc/passwd").st_mode & 07777U, 0600u); });
}

void a_lower_directory_can_be_replaced(SnapshotterTest& t) {
  t.layer("1", "", [](int dir) {
    make_dir_at(dir, "d", 0700);
    put(dir, "d/old");
    make_dir_at(dir, "gone", 0700);
    put(dir, "gone/old");
  });
  t.layer("2", "1", [](int dir) {
    (void)remove_tree_at(dir, "d");
    (void)remove_tree_at(dir, "gone");
    make_dir_at(dir, "d", 0755);
    put(dir, "d/new");
  });
  t.layer("3", "2", [](int dir) { put(dir, "d/newer"); });
  EXPECT_EQ(t.names("1"), "d d/old gone gone/old");
  EXPECT_EQ(t.names("2"), "d d/new");
  EXPECT_EQ(t.names("3"), "d d/new d/newer");
  t.look("3", [](int dir) { EXPECT_EQ(stat_at(dir, "d").st_mode & 07777U, 0755u); });
}

void owners_are_kept(SnapshotterTest& t) {
  t.layer("1", "", [](int dir) {
    put(dir, "f");
    make_dir_at(dir, "d", 0755);
    make_symlink_at("f", dir, "l");
  });
  t.layer("2", "1", [](int dir) {
    for (const PathView name : {PathView("f"), PathView("d"), PathView("l")})
      chown_at(dir, name, 12, 34);
  });
  t.layer("3", "2", [](int dir) { put(dir, "d/below"); });
  const auto owners = [](int dir) {
    std::string text;
    for (const PathView name : {PathView("f"), PathView("d"), PathView("l")}) {
      const struct stat st = stat_at(dir, name);
      text += fmt::format("{}:{} ", st.st_uid, st.st_gid);
    }
    return text;
  };
  t.look("1", [&](int dir) { EXPECT_EQ(owners(dir), "0:0 0:0 0:0 "); });
  t.look("3", [&](int dir) { EXPECT_EQ(owners(dir), "12:34 12:34 12:34 "); });
}

void directory_modes_survive_a_commit(SnapshotterTest& t) {
  const std::vector<mode_t> modes{0700, 0711, 0755, 0777, 01777, 02775, 0000};
  const auto name = [](mode_t mode) { return RelPath::parse(fmt::format("d{:o}", mode)); };
  t.layer("1", "", [&](int dir) {
    for (const mode_t mode : modes) make_dir_at(dir, name(mode), mode);
  });
  t.layer("2", "1", [&](int dir) {
    for (const mode_t mode : modes) put(dir, name(mode) / "f");
  });
  for (const char* const snapshot : {"1", "2"})
    t.look(snapshot, [&](int dir) {
      for (const mode_t mode : modes) EXPECT_EQ(stat_at(dir, name(mode)).st_mode & 07777U, mode);
    });
}

void the_top_directory_is_inherited(SnapshotterTest& t) {
  t.layer("1", "", [](int dir) {
    EXPECT_EQ(stat_fd(dir).st_mode & 07777U, 0755u);
    EXPECT_EQ(stat_fd(dir).st_uid, 0u);
  });
  t.layer("2", "1", [](int dir) {
    EXPECT_EQ(stat_fd(dir).st_mode & 07777U, 0755u);
    chmod_fd(dir, 01770);
    chown_fd(dir, 5, 6);
    set_xattr_at(dir, ".", "user.top", "value");
  });
  t.layer("3", "2", [](int dir) {
    const struct stat st = stat_fd(dir);
    EXPECT_EQ(st.st_mode & 07777U, 01770u);
    EXPECT_EQ(st.st_uid, 5u);
    EXPECT_EQ(st.st_gid, 6u);
    EXPECT_EQ(maybe_xattr_at(dir, ".", "user.top"), "value");
  });
  t.look("3", [](int dir) { EXPECT_EQ(stat_fd(dir).st_mode & 07777U, 01770u); });
}

void deletions_stay_above(SnapshotterTest& t) {
  t.layer("1", "", [](int dir) {
    for (const PathView name : {PathView("a"), PathView("b"), PathView("c")}) put(dir, name);
  });
  t.layer("2", "1", [](int dir) { unlink_at(dir, "b"); });
  t.layer("3", "2", [](int dir) {
    EXPECT_EQ(names_of(dir), "a c");
    unlink_at(dir, "a");
    put(dir, "b", "again");
  });
  EXPECT_EQ(t.names("1"), "a b c");
  EXPECT_EQ(t.names("2"), "a c");
  EXPECT_EQ(t.names("3"), "b c");
  EXPECT_EQ(t.read("3", "b"), "again");
}

void a_lower_file_can_be_moved(SnapshotterTest& t) {
  t.layer("1", "", [](int dir) {
    make_dir_at(dir, "dir1", 0700);
    put(dir, "dir1/f1", "text");
    make_dir_at(dir, "dir2", 0700);
    put(dir, "dir2/f2", "two");
  });
  t.layer("2", "1", [](int dir) { rename_at(dir, "dir1/f1", dir, "dir2/moved"); });
  EXPECT_EQ(t.names("1"), "dir1 dir1/f1 dir2 dir2/f2");
  EXPECT_EQ(t.names("2"), "dir1 dir2 dir2/f2 dir2/moved");
  EXPECT_EQ(t.read("2", "dir2/moved"), "text");
}

// Of lower directories overlayfs may refuse it (EXDEV), and programs copy then; of a directory that
// lies in the upper it does not.
void directories_can_be_renamed(SnapshotterTest& t) {
  t.layer("1", "", [](int dir) {
    make_dir_at(dir, "lower", 0700);
    put(dir, "lower/f", "lower");
  });
  t.layer("2", "1", [&](int dir) {
    make_dir_at(dir, "upper", 0700);
    put(dir, "upper/f", "upper");
    rename_at(dir, "upper", dir, "renamed");
    const int error_number = t.errno_of([&] { rename_at(dir, "lower", dir, "lower2"); });
    EXPECT_TRUE(error_number == 0 || error_number == EXDEV) << error_number;
    if (error_number == 0) rename_at(dir, "lower2", dir, "lower");
  });
  EXPECT_EQ(t.names("2"), "lower lower/f renamed renamed/f");
  EXPECT_EQ(t.read("2", "renamed/f"), "upper");
  EXPECT_EQ(t.read("2", "lower/f"), "lower");
}

void views_are_read_only(SnapshotterTest& t) {
  const Change write_everywhere = [&](int dir) {
    const auto refused = [&](auto call) { EXPECT_EQ(t.errno_of(call), EROFS); };
    refused([&] { put(dir, "new"); });
    refused([&] { make_dir_at(dir, "newdir", 0755); });
    if (!exists_at(dir, "f")) return;
    refused([&] { open_at(dir, "f", O_WRONLY); });
    refused([&] { unlink_at(dir, "f"); });
    refused([&] { chmod_at(dir, "f", 0600); });
  };
  t.layer("1", "", [](int dir) { put(dir, "f", "1"); });
  t.layer("2", "1", [](int dir) { put(dir, "g", "2"); });
  for (const std::string parent : {"", "1", "2"}) {
    const auto mounts = t.snapshots->view("view", parent, {});
    EXPECT_EQ(t.snapshots->mounts("view"), mounts);
    write_everywhere(t.mount(mounts).dir());
    t.snapshots->remove("view");
  }
  EXPECT_EQ(t.names("2"), "f g");
}

void containers_write_for_themselves(SnapshotterTest& t) {
  t.layer("image", "", [](int dir) { put(dir, "f", "image"); });
  const ClientMount a = t.mount(t.snapshots->prepare("a", "image", {}));
  const ClientMount b = t.mount(t.snapshots->prepare("b", "image", {}));
  unlink_at(a.dir(), "f");
  put(a.dir(), "f", "a");
  EXPECT_EQ(read_file_at(b.dir(), "f", 10), "image");
  EXPECT_EQ(t.read("image", "f"), "image");
}

void a_mounted_snapshot_can_be_removed(SnapshotterTest& t) {
  t.layer("image", "", [](int dir) { put(dir, "f", "image"); });
  const ClientMount mount = t.mount(t.snapshots->prepare("a", "image", {}));
  put(mount.dir(), "g", "open");
  const UniqueFd file = open_at(mount.dir(), "g", O_RDONLY);
  t.snapshots->remove("a");
  EXPECT_EQ(code_of([&] { t.snapshots->mounts("a"); }), Code::not_found);
  std::array<std::byte, 4> buffer;
  EXPECT_EQ(read_some(file.get(), buffer), 4u);
}

void a_hundred_and_twenty_eight_layers(SnapshotterTest& t) {
  constexpr int kLayers = 128;
  std::string parent;
  for (int i = 1; i <= kLayers; ++i) {
    const std::string name = fmt::format("layer {}", i);
    t.layer(name, parent, [&](int dir) {
      put(dir, RelPath::parse(fmt::format("f{}", i)), name);
      if (i > 1) unlink_at(dir, RelPath::parse(fmt::format("f{}", i - 1)));
    });
    parent = name;
  }
  EXPECT_EQ(t.names(parent), "f128");
  EXPECT_EQ(t.read(parent, "f128"), "layer 128");
  const ClientMount mount = t.mount(t.snapshots->prepare("container", parent, {}));
  put(mount.dir(), "mine");
  EXPECT_EQ(names_of(mount.dir()), "f128 mine");
}

// --- several at once ---

void live_and_die(Snapshotter& snapshots, const std::string& prefix) {
  for (int round = 0; round < 5; ++round) {
    const std::string key = fmt::format("{} {}", prefix, round);
    const auto mounts = snapshots.prepare(key, "base", {});
    EXPECT_EQ(snapshots.mounts(key), mounts);
    snapshots.commit(key + " done", key, {});
    snapshots.view(key, key + " done", {});
    snapshots.remove(key);
    snapshots.remove(key + " done");
  }
}

void many_threads(SnapshotterTest& t) {
  t.layer("base", "", [](int) {});
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&t, i] { live_and_die(*t.snapshots, fmt::format("thread {}", i)); });
  std::thread cleaner([&] {
    for (int i = 0; i < 5; ++i) t.snapshots->cleanup();
  });
  for (std::thread& thread : threads) thread.join();
  cleaner.join();
  EXPECT_EQ(t.walked(), std::vector<std::string>{"base"});
}

void one_key_for_one_of_many(SnapshotterTest& t) {
  std::atomic<int> made = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      try {
        t.snapshots->prepare("key", "", {});
        ++made;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), Code::already_exists) << error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(made, 1);
}

void two_snapshotters(SnapshotterTest& t) {
  t.layer("base", "", [](int dir) { put(dir, "f"); });
  const auto other = t.open();
  EXPECT_EQ(other->stat("base").name, "base");
  const auto mounts = other->prepare("theirs", "base", {});
  EXPECT_EQ(t.snapshots->mounts("theirs"), mounts);
  EXPECT_EQ(code_of([&] { t.snapshots->prepare("theirs", "", {}); }), Code::already_exists);
  std::thread thread([&] { live_and_die(*other, "theirs"); });
  live_and_die(*t.snapshots, "ours");
  thread.join();
  other->commit("their layer", "theirs", {});
  EXPECT_EQ(t.names("their layer"), "f");
}

}  // namespace

ClientMount::ClientMount(const std::vector<Mount>& mounts, const std::string& target)
    : target_(target) {
  check(::mkdir(target.c_str(), 0700), "mkdir {}", target);
  for (const Mount& mount : mounts) mount_one(mount, target);
  dir_ = open_root(target);
}

ClientMount::~ClientMount() {
  dir_.reset();
  EXPECT_EQ(::umount2(target_.c_str(), 0), 0) << target_;
  (void)::rmdir(target_.c_str());
}

void register_snapshotter_suite(const std::string& name, const SnapshotterFactory& open) {
  const std::vector<std::pair<const char*, std::function<void(SnapshotterTest&)>>> tests{
      {"ALife", a_life},
      {"StatTellsOfEachKind", stat_tells_of_each_kind},
      {"ParentsMakeAChain", parents_make_a_chain},
      {"PrepareAndViewRefuse", prepare_and_view_refuse},
      {"MountsRefuse", mounts_refuse},
      {"CommitRefuses", commit_refuses},
      {"CommitCanNameTheParent", commit_can_name_the_parent},
      {"UpdateChangesLabelsOnly", update_changes_labels_only},
      {"RemoveGoesFromTheTop", remove_goes_from_the_top},
      {"AnIntermediateSnapshotCanGo", an_intermediate_snapshot_can_go},
      {"WalkTakesFilters", walk_takes_filters},
      {"AWalkCanAskOn", a_walk_can_ask_on},
      {"UsageIsOfOneSnapshotAlone", usage_is_of_one_snapshot_alone},
      {"WhatIsClosedIsFoundAgain", what_is_closed_is_found_again},
      {"FilesAreUpdatedLayerByLayer", files_are_updated_layer_by_layer},
      {"ALowerDirectoryCanBeReplaced", a_lower_directory_can_be_replaced},
      {"OwnersAreKept", owners_are_kept},
      {"DirectoryModesSurviveACommit", directory_modes_survive_a_commit},
      {"TheTopDirectoryIsInherited", the_top_directory_is_inherited},
      {"DeletionsStayAbove", deletions_stay_above},
      {"ALowerFileCanBeMoved", a_lower_file_can_be_moved},
      {"DirectoriesCanBeRenamed", directories_can_be_renamed},
      {"ViewsAreReadOnly", views_are_read_only},
      {"ContainersWriteForThemselves", containers_write_for_themselves},
      {"AMountedSnapshotCanBeRemoved", a_mounted_snapshot_can_be_removed},
      {"AHundredAndTwentyEightLayers", a_hundred_and_twenty_eight_layers},
      {"ManyThreads", many_threads},
      {"OneKeyForOneOfMany", one_key_for_one_of_many},
      {"TwoSnapshotters", two_snapshotters}};
  for (const auto& [test, body] : tests)
    testing::RegisterTest(
        name.c_str(), test, nullptr, nullptr, __FILE__, __LINE__,
        [open, body = body]() -> testing::Test* { return new SnapshotterTest(open, body); });
}

}  // namespace veneer::test
