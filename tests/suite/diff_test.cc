#include "layer/diff.h"

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <random>

#include "base/error.h"
#include "layer/apply.h"
#include "layer/copy.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using Lines = std::vector<std::string>;
using Tree = std::map<std::string, std::string>;
using test::describe_tree;

// How a stack is mounted, and so which marks it gets.
struct Mode {
  std::string name;
  std::string options;
  Marks marks = Marks::trusted;
  // Whether the mount tells which names are links to one inode as its upper directory does.
  bool shows_links = true;
};

const Mode kPlain{"plain", ",redirect_dir=off,metacopy=off,index=off"};
// A moved directory's files stay inodes of a lower layer, whose other names no diff holds.
const Mode kRedirect{"redirect", ",redirect_dir=on,metacopy=on,index=off", Marks::trusted, false};
// Symbolic links cannot hold user.overlay.origin, so their inode number changes as caches do.
const Mode kUser{"userxattr", ",userxattr", Marks::user, false};

void mount_overlay_on(const std::string& target, const std::string& options) {
  check(::mount("overlay", target.c_str(), "overlay", 0, options.c_str()), "mount {}", options);
}

// Layers over each other, and the topmost as a container has it: written to through a mount.
class Stack {
 public:
  explicit Stack(const Mode& mode) : mode_(mode) { add_layer(); }
  ~Stack() { stop(); }
  Stack(const Stack&) = delete;

  // Before the first container there is one layer, filled as it is.
  int bottom() const { return layers_.front().get(); }
  // What the container sees.
  int dir() const { return merged_.get(); }

  // Mounts a container over all there is; an earlier one becomes a layer.
  void start() {
    stop();
    const std::string lower = lower_option();
    add_layer();
    const std::string work = "work" + number();
    merged_ =
        mount("merged", lower + ",upperdir=" + path(number()) + ",workdir=" + path(work), work);
  }
  // A look at what is below the container.
  UniqueFd lower_dir() {
    if (layers_.size() == 2) return dup_fd(bottom());
    std::string lower;
    for (size_t i = layers_.size() - 1; i-- > 0;)
      lower += (lower.empty() ? "lowerdir=" : ":") + path(std::to_string(i));
    return mount("lower", lower, "");
  }

  View now() const { return view(layers_.size()); }
  View before() const { return view(layers_.size() - 1); }
  test::Scratch& scratch() { return scratch_; }

 private:
  void stop() {
    merged_.reset();
    for (const std::string& mounted : mounts_) (void)::umount2(mounted.c_str(), MNT_DETACH);
    mounts_.clear();
  }
  std::string number() const { return std::to_string(layers_.size() - 1); }
  std::string path(const std::string& name) const { return scratch_.path() + "/" + name; }
  void add_layer() { layers_.push_back(scratch_.make(std::to_string(layers_.size()))); }
  std::string lower_option() const {
    std::string lower;
    for (size_t i = layers_.size(); i-- > 0;)
      lower += (lower.empty() ? "lowerdir=" : ":") + path(std::to_string(i));
    return lower;
  }
  UniqueFd mount(const std::string& what, const std::string& options, const std::string& work) {
    const std::string target = what + number();
    if (!work.empty()) (void)scratch_.make(work);
    (void)scratch_.make(target);
    mount_overlay_on(path(target), options + mode_.options);
    mounts_.push_back(path(target));
    return open_root(path(target));
  }
  View view(size_t count) const {
    View view{.layers = {}, .marks = mode_.marks};
    for (size_t i = count; i-- > 0;) view.layers.push_back(layers_[i].get());
    return view;
  }

  Mode mode_;
  test::Scratch scratch_;
  std::vector<UniqueFd> layers_;  // the lowest first
  UniqueFd merged_;
  std::vector<std::string> mounts_;
};

Lines listed(const View& now, const View& before) {
  Lines lines;
  for (const Change& change : list_changes(now, before))
    lines.push_back("CAD"[static_cast<int>(change.kind)] + (" " + change.path));
  return lines;
}

std::string tar_of(const View& now, const std::optional<View>& before) {
  StringSink sink;
  write_diff(now, before, {}, sink);
  return sink.text();
}

bool is_dir(const std::string& line) {
  return line.starts_with("04");
}

// The same list from two mounted trees, by nothing but names and descriptions.
Lines naive_changes(int now_dir, int before_dir) {
  const test::Describe what{.directory_times = false, .hard_links = false};
  Tree now = describe_tree(now_dir, what);
  Tree before = describe_tree(before_dir, what);
  now.erase(".");
  before.erase(".");
  const auto parent = [](const std::string& path) {
    const size_t slash = path.rfind('/');
    return slash == std::string::npos ? "" : path.substr(0, slash);
  };
  std::map<std::string, char> changes;
  const auto note = [&](const std::string& path, char kind) {
    changes[path] = kind;
    for (std::string up = parent(path); !up.empty(); up = parent(up)) changes.try_emplace(up, 'C');
  };
  for (const auto& [path, line] : now) {
    const auto old = before.find(path);
    if (old == before.end()) note(path, 'A');
    if (old != before.end() && old->second != line) note(path, 'C');
  }
  for (const auto& [path, line] : before) {
    const std::string up = parent(path);
    if (!now.contains(path) && (up.empty() || (now.contains(up) && is_dir(now[up]))))
      note(path, 'D');
  }
  Lines lines;
  for (const auto& [path, kind] : changes) lines.push_back(std::string{kind, ' ', '/'} + path);
  return lines;
}

// What a tar can say of a tree: whole seconds, no sockets; and links only between names that are
// there.
Tree as_tarred(int dir, bool hard_links, bool top = true) {
  Tree tree = describe_tree(dir, {.hard_links = hard_links});
  if (!top) tree.erase(".");
  std::erase_if(tree, [](const auto& entry) { return entry.second.starts_with("14"); });
  for (auto& [path, line] : tree) {
    // "mode uid:gid seconds.nanoseconds ..."
    line.erase(line.find('.'), 10);
    const std::string self = " same as " + path;
    if (line.ends_with(self)) line.resize(line.size() - self.size());
  }
  return tree;
}

// apply(diff(now, before)) over a copy of before is now.
Tree applied(test::Scratch& scratch, const std::string& name, int before_dir,
             const std::string& tar, bool hard_links) {
  UniqueFd copy = scratch.make(name);
  copy_tree(before_dir, copy.get(), CopyMode::full);
  MemorySource source(std::as_bytes(std::span(tar)));
  apply_layer(source, copy.get(), {});
  Tree tree = as_tarred(copy.get(), hard_links);
  copy.reset();
  remove_tree_at(scratch.dir(), RelPath::parse(name));
  return tree;
}

Lines differences(const Tree& got, const Tree& expected) {
  Lines lines;
  for (const auto& [path, line] : expected)
    if (!got.contains(path) || got.at(path) != line) lines.push_back("- " + path + " " + line);
  for (const auto& [path, line] : got)
    if (!expected.contains(path) || expected.at(path) != line)
      lines.push_back("+ " + path + " " + line);
  return lines;
}

// All that must hold of a container's changes, in both directions.
void expect_exact(Stack& stack, bool hard_links) {
  const View now = stack.now();
  const View before = stack.before();
  const UniqueFd lower = stack.lower_dir();
  EXPECT_EQ(listed(now, before), naive_changes(stack.dir(), lower.get()));
  EXPECT_EQ(listed(before, now), naive_changes(lower.get(), stack.dir()));
  EXPECT_EQ(
      differences(applied(stack.scratch(), "copy", lower.get(), tar_of(now, before), hard_links),
                  as_tarred(stack.dir(), hard_links)),
      Lines{});
  // The way back meets inodes of shared layers, whose other names are not in the tar.
  EXPECT_EQ(differences(applied(stack.scratch(), "back", stack.dir(), tar_of(before, now), false),
                        as_tarred(lower.get(), false)),
            Lines{});
  UniqueFd all = stack.scratch().make("all");
  const std::string whole = tar_of(now, std::nullopt);
  MemorySource source(std::as_bytes(std::span(whole)));
  apply_layer(source, all.get(), {});
  EXPECT_EQ(differences(as_tarred(all.get(), hard_links, false),
                        as_tarred(stack.dir(), hard_links, false)),
            Lines{});
  all.reset();
  remove_tree_at(stack.scratch().dir(), "all");
}

void write_file(int dir, const char* path, std::string_view text) {
  write_file_at(dir, RelPath::parse(path), text, 0644);
}

// Devices and FIFOs are never opened: that would block, or do things.
UniqueFd open_file(int dir, PathView path, int flags) {
  if (!S_ISREG(stat_at(dir, path).st_mode)) fail(Code::invalid_argument, "not a file");
  return open_at(dir, path, flags);
}

void append(int dir, PathView path, std::string_view text) {
  const UniqueFd file = open_file(dir, path, O_WRONLY | O_APPEND);
  write_all(file.get(), std::as_bytes(std::span(text)));
}

void fill(int dir) {
  for (const char* path : {"a", "a/b", "d", "d/sub", "empty", "gone", "gone/sub", "to-file"})
    make_dir_at(dir, RelPath::parse(path), 0755);
  for (const char* path : {"a/b/append", "a/chmod", "a/chown", "a/kept", "d/old", "d/sub/old",
                           "gone/f", "gone/sub/f", "link", "overwrite", "same", "to-dir", "xattr"})
    write_file(dir, path, path);
  make_symlink_at("a", dir, "symlink");
  set_xattr_at(dir, "xattr", "user.old", "1");
}

TEST(Diff, WhatAContainerDoes) {
  Stack stack(kPlain);
  fill(stack.bottom());
  stack.start();
  const int dir = stack.dir();
  append(dir, "a/b/append", "more");
  chmod_at(dir, "a/chmod", 04755);
  chown_at(dir, "a/chown", 1000, 1001);
  remove_tree_at(dir, "d");
  make_dir_at(dir, "d", 0755);
  write_file(dir, "d/new", "new");
  remove_tree_at(dir, "gone");
  link_at(dir, "link", dir, "link-too");
  write_file(dir, "never", "");
  unlink_at(dir, "never");
  {
    const struct stat st = stat_at(dir, "same");
    append(dir, "same", "");
    set_times_at(dir, "same", st.st_atim, st.st_mtim);
  }
  const UniqueFd file = open_at(dir, "overwrite", O_WRONLY);
  write_all_at(file.get(), std::as_bytes(std::span(std::string_view("OVER"))), 0);
  unlink_at(dir, "to-dir");
  make_dir_at(dir, "to-dir", 0700);
  remove_tree_at(dir, "to-file");
  write_file(dir, "to-file", "");
  unlink_at(dir, "symlink");
  make_symlink_at("d", dir, "symlink");
  set_xattr_at(dir, "xattr", "user.new", "2");
  remove_xattr_at(dir, "xattr", "user.old");
  make_node_at(dir, "fifo", S_IFIFO | 0600, 0);
  make_node_at(dir, "null", S_IFCHR | 0666, makedev(1, 3));
  EXPECT_EQ(
      listed(stack.now(), stack.before()),
      (Lines{"C /a", "C /a/b", "C /a/b/append", "C /a/chmod", "C /a/chown", "C /d", "A /d/new",
             "D /d/old", "D /d/sub", "A /fifo", "D /gone", "A /link-too", "A /null", "C /overwrite",
             "C /symlink", "C /to-dir", "C /to-file", "C /xattr"}));
  EXPECT_EQ(diff_size(stack.now(), stack.before()), std::string_view("a/b/appendmore"
                                                                     "a/chmod"
                                                                     "a/chown"
                                                                     "new"
                                                                     "link"
                                                                     "overwrite"
                                                                     "xattr")
                                                        .size());
  expect_exact(stack, true);
}

TEST(Diff, RedirectsAndMetacopies) {
  Stack stack(kRedirect);
  fill(stack.bottom());
  stack.start();
  const int dir = stack.dir();
  rename_at(dir, "d", dir, "a/moved");
  rename_at(dir, "a/moved/sub", dir, "a/moved/renamed");
  make_dir_at(dir, "d", 0700);
  chmod_at(dir, "a/kept", 0600);
  chown_at(dir, "overwrite", 5, 6);
  rename_at(dir, "overwrite", dir, "a/elsewhere");
  link_at(dir, "a/elsewhere", dir, "linked");
  const View upper{.layers = {stack.now().layers.front()}, .marks = Marks::trusted};
  ASSERT_TRUE(maybe_xattr_at(upper.layers[0], "a/kept", "trusted.overlay.metacopy"));
  ASSERT_TRUE(maybe_xattr_at(upper.layers[0], "a/moved", "trusted.overlay.redirect"));
  EXPECT_EQ(listed(stack.now(), stack.before()),
            (Lines{"C /a", "A /a/elsewhere", "C /a/kept", "A /a/moved", "A /a/moved/old",
                   "A /a/moved/renamed", "A /a/moved/renamed/old", "C /d", "D /d/old", "D /d/sub",
                   "A /linked", "D /overwrite"}));
  expect_exact(stack, true);
  // And as lower layers, under further moves.
  stack.start();
  rename_at(stack.dir(), "a", stack.dir(), "z");
  rename_at(stack.dir(), "z/moved/renamed", stack.dir(), "sub");
  chmod_at(stack.dir(), "z/elsewhere", 0444);
  expect_exact(stack, true);
}

TEST(Diff, XattrsOfNestedOverlays) {
  Stack stack(kPlain);
  fill(stack.bottom());
  stack.start();
  set_xattr_at(stack.dir(), "a", "trusted.overlay.opaque", "y");
  set_xattr_at(stack.dir(), "d", "user.overlay.opaque", "y");
  // The kernel has stored the one escaped; the other means nothing to a mount without userxattr.
  EXPECT_EQ(listed(stack.now(), stack.before()), Lines{"C /a"});
}

// A shell command's output, a line each; its exit status as the last one unless it is 0.
Lines run(const std::string& command) {
  Lines lines;
  std::FILE* pipe = ::popen(command.c_str(), "re");
  std::array<char, 4096> line;
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) {
    lines.emplace_back(line.data());
    lines.back().pop_back();
  }
  if (const int status = ::pclose(pipe); status != 0) lines.push_back(std::to_string(status));
  return lines;
}

TEST(Diff, GnuTarFindsItEqual) {
  Stack stack(kPlain);
  fill(stack.bottom());
  stack.start();
  const int dir = stack.dir();
  const std::string long_name(200, 'n');
  make_dir_at(dir, RelPath::parse(long_name), 0755);
  write_file_at(dir, RelPath::parse(long_name + "/" + long_name), std::string(100000, 'x'), 0640);
  append(dir, "link", "x");
  link_at(dir, "link", dir, "z");
  make_symlink_at(long_name, dir, "s");
  make_node_at(dir, "p", S_IFIFO | 0600, 0);
  make_node_at(dir, "b", S_IFBLK | 0600, makedev(7, 300));
  unlink_at(dir, "a/kept");
  // GNU tar compares nanoseconds too.
  for (const std::string& path :
       Lines{long_name + "/" + long_name, long_name, "link", "p", "b", "s", "a", "."})
    set_times_at(dir, RelPath::parse(path), {}, {.tv_sec = 1234567890, .tv_nsec = 0});
  const UniqueFd archive =
      open_at(stack.scratch().dir(), "diff.tar", O_WRONLY | O_CREAT | O_EXCL, 0600);
  FdSink sink(archive.get());
  write_diff(stack.now(), stack.before(), {}, sink);
  const std::string tar = stack.scratch().path() + "/diff.tar";
  EXPECT_EQ(run("tar -tf " + tar), (Lines{"./", "a/", "a/.wh.kept", "b", "link", long_name + "/",
                                          long_name + "/" + long_name, "p", "s", "z"}));
  EXPECT_EQ(
      run("tar --numeric-owner --exclude='.wh.*' -df " + tar + " -C " + path_of(dir) + " 2>&1"),
      Lines{});
}

// Seeded changes of a mounted tree: everything that a container can do to its files.
class Chaos {
 public:
  Chaos(int dir, uint64_t seed) : dir_(dir), random_(seed) {}

  void run(int operations) {
    for (int i = 0; i < operations; ++i) try {
        step();
      } catch (const Error&) {
        // Names are guessed, so much is refused: a missing parent, a rename of a directory into
        // itself.
      }
  }

 private:
  uint64_t roll(uint64_t sides) { return random_() % sides; }

  // Few names, so that they meet again in later layers.
  RelPath name() {
    RelPath path;
    for (uint64_t depth = 1 + roll(3); depth > 0; --depth)
      path.push(std::string(1, static_cast<char>('a' + roll(4))));
    return path;
  }
  std::string text() { return std::string(roll(3) * roll(300), static_cast<char>('0' + roll(3))); }
  timespec time() { return {.tv_sec = static_cast<time_t>(1000000000 + roll(3)), .tv_nsec = 0}; }

  void step() {
    const RelPath path = name();
    switch (roll(22)) {
      case 0:
      case 1:
        return make_dir_at(dir_, path, 0755);
      case 2:
      case 3:
        return write_file_at(dir_, path, text(), 0644);
      case 4:
        return append(dir_, path, text());
      case 5:
        return set_size(open_file(dir_, path, O_WRONLY).get(), roll(200));
      case 6:
        return chmod_at(dir_, path, static_cast<mode_t>(roll(010000)));
      case 7:
        return chown_at(dir_, path, static_cast<uid_t>(roll(3)), static_cast<gid_t>(roll(3)));
      case 8:
        return set_xattr_at(dir_, path, "user.x", text());
      case 9:
        return remove_xattr_at(dir_, path, "user.x");
      case 10:
        return unlink_at(dir_, path);
      case 11:
        return (void)remove_tree_at(dir_, path);
      case 12:
        return recreate(path);
      case 13:
      case 14:
        return replace_at(dir_, path, dir_, name());
      case 15:
        return exchange_at(dir_, path, dir_, name());
      case 16:
        return make_symlink_at(text(), dir_, path);
      case 17:
        return link_at(dir_, path, dir_, name());
      case 18:
        return make_node_at(dir_, path, node_type(), roll(2) == 0 ? makedev(1, 3) : makedev(1, 5));
      case 19:
        return set_times_at(dir_, path, {}, time());
      case 20:
        return rewrite(path);
      default:
        return set_xattr_at(dir_, path, "security.capability",
                            std::string_view("\1\0\0\2\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20));
    }
  }

  mode_t node_type() {
    return std::array<mode_t, 4>{S_IFIFO, S_IFCHR, S_IFBLK, S_IFSOCK}[roll(4)] | 0644;
  }

  void recreate(const RelPath& path) {
    remove_tree_at(dir_, path);
    make_dir_at(dir_, path, 0755);
    write_file_at(dir_, path / "b", text(), 0600);
  }

  // Copied up, and no change.
  void rewrite(const RelPath& path) {
    const struct stat st = stat_at(dir_, path);
    const UniqueFd file = open_file(dir_, path, O_RDWR);
    std::array<std::byte, 1> first{};
    if (read_some_at(file.get(), first, 0) == 1) write_all_at(file.get(), first, 0);
    set_times_fd(file.get(), st.st_atim, st.st_mtim);
  }

  int dir_;
  std::mt19937_64 random_;
};

class Property : public testing::TestWithParam<Mode> {};

TEST_P(Property, TheDiffIsExact) {
  for (uint64_t seed = 1; seed <= 40 && !HasFailure(); ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Stack stack(GetParam());
    Chaos(stack.bottom(), seed).run(80);
    for (uint64_t layer = 1; layer <= 3 && !HasFailure(); ++layer) {
      stack.start();
      Chaos(stack.dir(), seed * 100 + layer).run(50);
      expect_exact(stack, GetParam().shows_links);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, Property, testing::Values(kPlain, kRedirect, kUser),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace veneer
