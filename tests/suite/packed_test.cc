// Packed layers under real overlay mounts: what a container over them sees, and what its diff
// carries; as many of them as the kernel takes; and what there is without privileges.
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "base/error.h"
#include "layer/settle.h"
#include "mount/erofs.h"
#include "mount/mount.h"
#include "mount/overlay.h"
#include "tests/support/code_of.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::code_of;
using test::LayerTar;
using Lines = std::vector<std::string>;

// Layers over one another, each packed over those below it and mounted.
class Stack {
 public:
  explicit Stack(LayerForm form = LayerForm::packed, bool userxattr = false)
      : form_(form), userxattr_(userxattr) {}
  ~Stack() {
    trees_.clear();
    for (const std::string& name : mounted_)
      (void)unmount_at(scratch_.dir(), RelPath::parse_name(name, "name"), Unmount::detach);
  }
  Stack(const Stack&) = delete;

  void add(const std::string& bytes) {
    const std::string name = fmt::format("{}", trees_.size());
    const UniqueFd dir = scratch_.make(name);
    MemorySource source(std::as_bytes(std::span(bytes)));
    const LowerView lower(view());
    StagedLayer staged = stage_layer(source, dir.get(), {.is_durable = false});
    const SettledLayer settled =
        settle_layer(staged, dir.get(), &lower,
                     {.form = form_, .is_durable = false, .expand = {.userxattr = userxattr_}});
    if (settled.form == LayerForm::directory) {
      trees_.insert(trees_.begin(), open_dir_at(dir.get(), kLayerTreeName));
      paths_.insert(paths_.begin(), fmt::format("{}/{}/fs", scratch_.path(), name));
      return;
    }
    const RelPath index = RelPath::parse_name(settled.index_name, "index");
    UniqueFd tree = mount_erofs(dir.get(), {.index = index, .device = kLayerTarName});
    mounted_.push_back("mnt-" + name);
    (void)scratch_.make(mounted_.back());
    attach_mount(tree.get(), scratch_.dir(), RelPath::parse_name(mounted_.back(), "name"));
    trees_.insert(trees_.begin(), std::move(tree));
    paths_.insert(paths_.begin(), scratch_.path() + "/" + mounted_.back());
  }

  View view() const {
    View view{.layers = {}, .marks = userxattr_ ? Marks::user : Marks::trusted};
    for (const UniqueFd& tree : trees_) view.layers.push_back(tree.get());
    return view;
  }
  const std::vector<std::string>& paths() const { return paths_; }
  test::Scratch& scratch() { return scratch_; }

  // A container over all there is.
  UniqueFd start() {
    upper_ = scratch_.make("upper");
    (void)scratch_.make("work");
    return open_dir_at(mount_overlay({.lower = paths_,
                                      .upper = scratch_.path() + "/upper",
                                      .work = scratch_.path() + "/work",
                                      .userxattr = userxattr_,
                                      .options = {"index=off"}})
                           .get(),
                       ".");
  }
  int upper() const { return upper_.get(); }
  View container() const {
    const View lower = view();
    View now{.layers = {upper_.get()}, .marks = lower.marks};
    now.layers.insert(now.layers.end(), lower.layers.begin(), lower.layers.end());
    return now;
  }

 private:
  LayerForm form_;
  bool userxattr_;
  test::Scratch scratch_;
  std::vector<UniqueFd> trees_;     // topmost first
  std::vector<std::string> paths_;  // likewise
  std::vector<std::string> mounted_;
  UniqueFd upper_;
};

Lines listed(const View& now, const View& before) {
  Lines lines;
  for (const Change& change : list_changes(now, before))
    lines.push_back("CAD"[static_cast<int>(change.kind)] + (" " + change.path));
  return lines;
}

std::string tar_of(const View& now, const View& before) {
  StringSink sink;
  write_diff(now, before, {}, sink);
  return sink.text();
}

// The mark for user namespaces is there for the container to see, and stays on what it copies up.
// It hides nothing there, and no layer has it.
TEST(Packed, TheOpaqueMarkForUserNamespacesIsNotCarried) {
  constexpr const char* kMark = "user.overlay.opaque";
  Stack stack;
  stack.add(LayerTar().dir("d").file("d/old", "1").dir("e").file("e/f", "1").bytes());
  stack.add(LayerTar().dir("d").opaque("d").file("d/kept", "2").bytes());
  const UniqueFd merged = stack.start();
  EXPECT_EQ(maybe_xattr_at(merged.get(), "d", kMark), "y");
  chmod_at(merged.get(), "d", 0700);
  set_xattr_at(merged.get(), "e", kMark, "y");
  EXPECT_EQ(maybe_xattr_at(stack.upper(), "d", kMark), "y");
  const auto wanted = test::names_of(merged.get());
  EXPECT_EQ(wanted, "d d/kept e e/f");

  EXPECT_EQ(listed(stack.container(), stack.view()), Lines{"C /d"});
  const std::string diff = tar_of(stack.container(), stack.view());
  EXPECT_FALSE(diff.contains("overlay"));
  stack.add(diff);
  EXPECT_EQ(maybe_xattr_at(stack.view().layers.front(), "d", kMark), std::nullopt);
  const UniqueFd again = open_dir_at(mount_overlay({.lower = stack.paths()}).get(), ".");
  EXPECT_EQ(test::names_of(again.get()), wanted);
  EXPECT_EQ(stat_at(again.get(), "d").st_mode & 07777, 0700U);
}

// What lower layers contribute is what their mount shows, whatever a container has set on its
// directories.
TEST(Packed, LowerLayersAreReadByTheMarksOfTheMount) {
  for (const bool userxattr : {false, true}) {
    const std::string heeded = userxattr ? "user.overlay." : "trusted.overlay.";
    const std::string data = userxattr ? "trusted.overlay." : "user.overlay.";
    Stack stack(LayerForm::directory, userxattr);
    stack.add(LayerTar().dir("d").dir("d/sub", {.mode = 0711}).dir("o").dir("o/sub").bytes());
    stack.add(LayerTar().dir("d").dir("o").bytes());
    const int top = stack.view().layers.front();
    set_xattr_at(top, "d", (data + "opaque").c_str(), "y");
    set_xattr_at(top, "d", (data + "redirect").c_str(), "not/one/name");
    set_xattr_at(top, "o", (heeded + "opaque").c_str(), "y");
    const LowerView lower(stack.view());
    const auto sub = lower.find(RelPath::parse("d/sub"));
    ASSERT_TRUE(sub);
    EXPECT_EQ(sub->st.st_mode & 07777, 0711U);
    EXPECT_FALSE(lower.find(RelPath::parse("o/sub")));
    const UniqueFd merged =
        open_dir_at(mount_overlay({.lower = stack.paths(), .userxattr = userxattr}).get(), ".");
    EXPECT_EQ(test::names_of(merged.get()), "d d/sub o");
  }
}

TEST(Packed, FiveHundredLayersAndNoMore) {
  Stack stack;
  for (size_t i = 0; i < kOverlayLowers; ++i) {
    LayerTar tar;
    tar.dir("d").file(fmt::format("d/{}", i), "x").file("d/last", fmt::format("{}", i));
    if (i % 2 == 1) tar.whiteout(fmt::format("d/{}", i - 1));
    stack.add(tar.bytes());
  }
  const auto check_names = [](int root) {
    const UniqueFd dir = open_dir_at(root, "d");
    EXPECT_EQ(list_dir(dir.get()).size(), kOverlayLowers / 2 + 1);
    EXPECT_EQ(read_file_at(dir.get(), "last", 10), "499");
    EXPECT_TRUE(exists_at(dir.get(), "1"));
    EXPECT_FALSE(exists_at(dir.get(), "0"));
  };
  check_names(mount_overlay({.lower = stack.paths()}).get());
  {
    const UniqueFd merged = stack.start();
    check_names(merged.get());
    write_file_at(merged.get(), "d/new", "x", 0600);
    EXPECT_EQ(listed(stack.container(), stack.view()), (Lines{"C /d", "A /d/new"}));
  }
  stack.add(LayerTar().file("one more", "x").bytes());
  try {
    (void)mount_overlay({.lower = stack.paths()});
    ADD_FAILURE() << "501 layers are mounted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::resource_exhausted);
    EXPECT_TRUE(error.message().contains("501 lower directories, the kernel takes 500"))
        << error.message();
  }
}

// How kernels without lowerdir+ are served: as long as the paths fit a page.
TEST(Packed, InAPageWhereThePathsFit) {
  Stack stack;
  const auto bytes_needed = [&](size_t more) {
    size_t size = std::string("lowerdir=").size();
    for (const std::string& path : stack.paths()) size += path.size() + 1;
    return size + more * (stack.paths().front().size() + 2);
  };
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  do {
    stack.add(LayerTar().file(fmt::format("{}", stack.paths().size()), "x").bytes());
  } while (bytes_needed(1) < page);
  const size_t count = stack.paths().size();
  EXPECT_GT(count, 50U);
  const UniqueFd merged = open_dir_at(mount_overlay_in_page({.lower = stack.paths()}).get(), ".");
  EXPECT_EQ(list_dir(merged.get()).size(), count);
  while (bytes_needed(0) <= page) stack.add(LayerTar().file("last", "x").bytes());
  EXPECT_EQ(code_of([&] { mount_overlay_in_page({.lower = stack.paths()}); }),
            Code::resource_exhausted);
  EXPECT_TRUE(exists_at(mount_overlay({.lower = stack.paths()}).get(), "last"));
}

// --- without privileges ---

constexpr uid_t kSomebody = 1000;

// unshare(2): a process with threads cannot go into a new user namespace, and the thread sanitizer
// starts one of its own after each fork.
#ifdef __SANITIZE_THREAD__
#define SKIP_IF_FORKS_HAVE_THREADS() GTEST_SKIP() << "the sanitizer's thread is in the way"
#else
#define SKIP_IF_FORKS_HAVE_THREADS() static_cast<void>(0)
#endif

// Runs what must hold as root of a new user namespace that only maps an ordinary user.
void expect_in_user_namespace(const std::function<void()>& body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      check(::setgroups(0, nullptr), "setgroups");
      check(::setresgid(kSomebody, kSomebody, kSomebody), "setresgid");
      check(::setresuid(kSomebody, kSomebody, kSomebody), "setresuid");
      check(::prctl(PR_SET_DUMPABLE, 1), "prctl");  // else /proc/self is root's
      check(::unshare(CLONE_NEWUSER | CLONE_NEWNS), "unshare");
      const UniqueFd self = open_root("/proc/self");
      const auto write = [&](PathView name, const std::string& text) {
        write_all(open_at(self.get(), name, O_WRONLY).get(), std::as_bytes(std::span(text)));
      };
      write("setgroups", "deny");
      write("uid_map", fmt::format("0 {} 1", kSomebody));
      write("gid_map", fmt::format("0 {} 1", kSomebody));
      body();
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

// Of an opaque directory, one with a whiteout alone, one with a whiteout in a directory of one
// layer, and what an ordinary user cannot make.
std::string lower_layer() {
  return LayerTar()
      .dir("d")
      .file("d/old", "1")
      .dir("e")
      .file("e/gone", "1")
      .file("e/kept", "1")
      .bytes();
}
std::string upper_layer() {
  return LayerTar()
      .dir("d")
      .opaque("d")
      .file("d/new", "2", {.xattrs = {{"trusted.overlay.x", "1"}, {"user.x", "2"}}})
      .whiteout("e/gone")
      .dir("only")
      .whiteout("only/ghost")
      .char_device("null", 1, 3)
      .hard_link("null-too", "null")
      .bytes();
}

TEST(Packed, DirectoryFormWithoutPrivileges) {
  SKIP_IF_FORKS_HAVE_THREADS();
  test::Scratch scratch;  // where the user may write
  chown_at(scratch.dir(), ".", kSomebody, kSomebody);
  ASSERT_EQ(::setenv("VENEER_SCRATCH", scratch.path().c_str(), 1), 0);
  expect_in_user_namespace([] {
    Stack stack(LayerForm::directory, true);
    stack.add(lower_layer());
    stack.add(upper_layer());
    const int top = stack.view().layers.front();
    EXPECT_EQ(maybe_xattr_at(top, "d", "user.overlay.opaque"), "y");
    EXPECT_EQ(maybe_xattr_at(top, "d/new", "user.x"), "2");
    EXPECT_TRUE(S_ISCHR(stat_at(top, "e/gone").st_mode));
    {
      const UniqueFd merged = stack.start();
      EXPECT_EQ(test::names_of(merged.get()), "d d/new e e/kept only");
      unlink_at(merged.get(), "e/kept");
      remove_tree_at(merged.get(), "d");
      make_dir_at(merged.get(), "d", 0700);
      write_file_at(merged.get(), "d/newer", "3", 0600);
      EXPECT_EQ(listed(stack.container(), stack.view()),
                (Lines{"C /d", "D /d/new", "A /d/newer", "C /e", "D /e/kept"}));
    }
    stack.add(tar_of(stack.container(), stack.view()));
    const UniqueFd merged =
        open_dir_at(mount_overlay({.lower = stack.paths(), .userxattr = true}).get(), ".");
    EXPECT_EQ(test::names_of(merged.get()), "d d/newer e only");
  });
  ASSERT_EQ(::unsetenv("VENEER_SCRATCH"), 0);
}

// Packed layers cannot be mounted there, but those that the host has mounted can be used.
TEST(Packed, HostMountsAsLowersOfAUserNamespace) {
  SKIP_IF_FORKS_HAVE_THREADS();
  Stack stack;
  chmod_at(stack.scratch().dir(), ".", 0755);
  stack.add(lower_layer());
  stack.add(upper_layer());
  const UniqueFd upper = stack.scratch().make("user-upper");
  const UniqueFd work = stack.scratch().make("user-work");
  for (const UniqueFd* dir : {&upper, &work}) chown_at(dir->get(), ".", kSomebody, kSomebody);
  expect_in_user_namespace([&] {
    const UniqueFd merged =
        open_dir_at(mount_overlay({.lower = stack.paths(),
                                   .upper = stack.scratch().path() + "/user-upper",
                                   .work = stack.scratch().path() + "/user-work",
                                   .userxattr = true})
                        .get(),
                    ".");
    EXPECT_EQ(test::names_of(merged.get()), "d d/new e e/kept null null-too only");
  });
}

}  // namespace
}  // namespace veneer
