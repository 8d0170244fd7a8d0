// The rules of applying a layer, each on a plain tree (a hard-linked copy, as images are made) and
// through an overlay mount (as containers' layers are): both must come to the same.
#include "layer/apply.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "base/error.h"
#include "layer/copy.h"
#include "layer/file_writer.h"
#include "mount/overlay.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::LayerTar;
using test::names_of;
using Tree = std::map<std::string, std::string>;

uint64_t apply_bytes(const std::string& bytes, int root, const ApplyOptions& options = {}) {
  MemorySource source(std::as_bytes(std::span(bytes)));
  return apply_layer(source, root, options);
}

class Apply : public testing::TestWithParam<bool> {
 protected:
  bool through_overlay() const { return GetParam(); }

  // What is below: made by a layer of its own.
  void below(LayerTar& tar) {
    lower_ = scratch_->make("lower");
    apply_bytes(tar.bytes(), lower_.get());
    before_ = test::describe_tree(lower_.get());
  }

  // Applies over what is below, and gives back the merged tree.
  int apply(LayerTar& tar) { return apply(tar.bytes()); }
  int apply(const std::string& bytes) {
    if (!lower_) lower_ = scratch_->make("lower");
    if (through_overlay()) {
      (void)scratch_->make("upper");
      (void)scratch_->make("work");
      merged_ = mount_overlay({.lower = {scratch_->path() + "/lower"},
                               .upper = scratch_->path() + "/upper",
                               .work = scratch_->path() + "/work"});
    } else {
      merged_ = scratch_->make("merged");
      copy_tree(lower_.get(), merged_.get(), CopyMode::link);
    }
    size_ =
        apply_bytes(bytes, merged_.get(), {.id_maps = {}, .through_overlay = through_overlay()});
    return merged_.get();
  }

  void TearDown() override {
    if (lower_ && !before_.empty()) {
      EXPECT_EQ(test::describe_tree(lower_.get(), {.hard_links = false}), without_links(before_))
          << "the lower tree was changed";
    }
  }

  static Tree without_links(Tree tree) {
    for (auto& [path, line] : tree)
      if (const size_t at = line.find(" same as "); at != std::string::npos) line.resize(at);
    return tree;
  }

  // Forgets everything, for a test of several stacks.
  void start_over() {
    merged_.reset();
    lower_.reset();
    before_.clear();
    scratch_ = std::make_unique<test::Scratch>();
  }

  std::unique_ptr<test::Scratch> scratch_ = std::make_unique<test::Scratch>();
  UniqueFd lower_;
  UniqueFd merged_;
  Tree before_;
  uint64_t size_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Forms, Apply, testing::Bool(),
                         [](const auto& param) { return param.param ? "Overlay" : "Plain"; });

// The lower tree of the rows A to H of the layer format's measured differential.
void rows_below(LayerTar& tar) {
  tar.dir("d").file("d/old", "1").dir("d/sub").file("d/sub/old2", "2");
  tar.file("f", "lower f").dir("foo").file("foo/bar", "3");
  tar.dir("a", {.mode = 0711, .uid = 5}).file("a/low", "4").dir("a/b", {.mode = 0700});
}

// Every order of the entries must come to the same.
class Rows : public Apply {
 protected:
  struct Step {
    std::function<void(LayerTar&)> write;
  };
  void expect_in_any_order(std::vector<Step> steps, const std::string& names) {
    std::vector<size_t> order(steps.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    do {
      start_over();
      LayerTar lower;
      rows_below(lower);
      below(lower);
      LayerTar layer;
      for (const size_t i : order) steps[i].write(layer);
      EXPECT_EQ(names_of(apply(layer)), names);
    } while (std::ranges::next_permutation(order).found);
  }
};

INSTANTIATE_TEST_SUITE_P(Forms, Rows, testing::Bool(),
                         [](const auto& param) { return param.param ? "Overlay" : "Plain"; });

TEST_P(Rows, A_ADirectoryRemovedAndMadeAgainIsNew) {
  expect_in_any_order({{[](LayerTar& t) { t.whiteout("d"); }},
                       {[](LayerTar& t) { t.dir("d"); }},
                       {[](LayerTar& t) { t.file("d/new", ""); }}},
                      "a a/b a/low d d/new f foo foo/bar");
}

TEST_P(Rows, B_TheSameWithoutAnEntryForTheDirectory) {
  expect_in_any_order(
      {{[](LayerTar& t) { t.whiteout("d"); }}, {[](LayerTar& t) { t.file("d/new", ""); }}},
      "a a/b a/low d d/new f foo foo/bar");
}

TEST_P(Rows, C_AFileAndItsOwnWhiteout) {
  expect_in_any_order(
      {{[](LayerTar& t) { t.whiteout("f"); }}, {[](LayerTar& t) { t.file("f", "new"); }}},
      "a a/b a/low d d/old d/sub d/sub/old2 f foo foo/bar");
  EXPECT_EQ(size_, 3u);
}

TEST_P(Rows, D_AWhiteoutBelowAWhiteout) {
  expect_in_any_order(
      {{[](LayerTar& t) { t.whiteout("foo"); }}, {[](LayerTar& t) { t.whiteout("foo/bar"); }}},
      "a a/b a/low d d/old d/sub d/sub/old2 f");
}

TEST_P(Rows, E_AnOpaqueMarkAndAnImpliedDirectory) {
  expect_in_any_order(
      {{[](LayerTar& t) { t.opaque("a"); }}, {[](LayerTar& t) { t.file("a/b/c", ""); }}},
      "a a/b a/b/c d d/old d/sub d/sub/old2 f foo foo/bar");
}

TEST_P(Apply, F_AHardLinkIntoALowerLayer) {
  LayerTar lower;
  rows_below(lower);
  below(lower);
  LayerTar layer;
  layer.hard_link("g", "f");
  const int root = apply(layer);
  EXPECT_EQ(stat_at(root, "g").st_ino, stat_at(root, "f").st_ino);
  EXPECT_EQ(read_file_at(root, "g", 100), "lower f");
}

TEST_P(Apply, H_ADeviceThatIsAWhiteoutIsRefused) {
  LayerTar lower;
  rows_below(lower);
  below(lower);
  LayerTar layer;
  layer.char_device("f", 0, 0);
  EXPECT_THROW(apply(layer), Error);
}

TEST_P(Apply, AnImpliedDirectoryKeepsWhatTheLowerOneHas) {
  LayerTar lower;
  rows_below(lower);
  below(lower);
  LayerTar layer;
  layer.file("a/x", "").file("new/deep/x", "");
  const Tree tree = test::describe_tree(apply(layer));
  EXPECT_EQ(tree.at("a"), "040711 5:0 1700000000.000000000");
  EXPECT_EQ(tree.at("new"), "040755 0:0 0.000000000");
  EXPECT_EQ(tree.at("new/deep"), "040755 0:0 0.000000000");
}

TEST_P(Apply, AnImpliedDirectoryUnderAWhiteoutIsNew) {
  for (const bool whiteout_first : {true, false}) {
    start_over();
    LayerTar lower;
    rows_below(lower);
    below(lower);
    LayerTar layer;
    if (whiteout_first) layer.whiteout("a");
    layer.file("a/b/x", "");
    if (!whiteout_first) layer.whiteout("a");
    const Tree tree = test::describe_tree(apply(layer));
    EXPECT_EQ(tree.at("a"), "040755 0:0 0.000000000");
    EXPECT_EQ(tree.at("a/b"), "040755 0:0 0.000000000");
    EXPECT_FALSE(tree.contains("a/low"));
  }
}

TEST_P(Apply, AttributesOfEveryKind) {
  const std::string capability(
      "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", 20);
  LayerTar layer;
  layer.dir("d", {.mode = 02750, .uid = 1000, .gid = 1001, .modified = {-5, 250000000}});
  layer.file("d/suid", "x", {.mode = 06755, .uid = 2097159, .gid = 7, .modified = {1, 999999999}});
  layer.file("d/cap", "y",
             {.mode = 0755, .uid = 3, .xattrs = {{"security.capability", capability}}});
  layer.symlink("d/link", "/not/inside").fifo("d/fifo").char_device("d/null", 1, 3);
  layer.file("d/x", "", {.xattrs = {{"user.a", std::string("\0b", 2)}, {"security.selinux", "s"}}});
  const int root = apply(layer);
  const Tree tree = test::describe_tree(root);
  EXPECT_EQ(tree.at("d"), "042750 1000:1001 -5.250000000");
  EXPECT_EQ(tree.at("d/suid"), "106755 2097159:7 1.999999999 1 x");
  EXPECT_EQ(tree.at("d/cap"),
            "100755 3:0 1700000000.000000000 1 y "
            "security.capability=0100000200200000000000000000000000000000");
  EXPECT_EQ(tree.at("d/link"), "120777 0:0 1700000000.000000000 -> /not/inside");
  EXPECT_EQ(tree.at("d/fifo"), "010644 0:0 1700000000.000000000");
  EXPECT_EQ(tree.at("d/null"), "020644 0:0 1700000000.000000000 1:3");
  EXPECT_EQ(tree.at("d/x"), "100644 0:0 1700000000.000000000 0  user.a=0062");
}

TEST_P(Apply, ADirectoryEntryReplacesAttributesAndKeepsContent) {
  LayerTar lower;
  lower.dir("d", {.mode = 0700, .xattrs = {{"user.old", "1"}}}).file("d/kept", "");
  below(lower);
  LayerTar layer;
  layer.dir("d", {.mode = 0755, .uid = 9, .modified = {42, 0}, .xattrs = {{"user.new", "2"}}});
  const int root = apply(layer);
  EXPECT_EQ(names_of(root), "d d/kept");
  EXPECT_EQ(test::describe_tree(root).at("d"), "040755 9:0 42.000000000 user.new=32");
}

// chown(2) clears none of these bits on a directory, and not all of them on a file.
TEST_P(Apply, ADirectoryEntryReplacesSetIdAndStickyBits) {
  LayerTar lower;
  lower.dir("staff", {.mode = 02775, .gid = 50}).dir("tmp", {.mode = 01777});
  lower.dir("same", {.mode = 06755}).dir("implied", {.mode = 03755, .uid = 7});
  below(lower);
  LayerTar layer;
  layer.dir("staff", {.mode = 0775}).dir("tmp", {.mode = 0777, .uid = 1});
  layer.dir("same", {.mode = 06755, .uid = 1}).whiteout("implied").file("implied/new", "");
  const Tree tree = test::describe_tree(apply(layer));
  EXPECT_TRUE(tree.at("staff").starts_with("040775 0:0 ")) << tree.at("staff");
  EXPECT_TRUE(tree.at("tmp").starts_with("040777 1:0 ")) << tree.at("tmp");
  EXPECT_TRUE(tree.at("same").starts_with("046755 1:0 ")) << tree.at("same");
  EXPECT_TRUE(tree.at("implied").starts_with("040755 0:0 ")) << tree.at("implied");
}

// Whatever stands at a name gives way, except a directory to a directory.
TEST_P(Apply, EveryKindReplacesEveryKind) {
  const std::vector<std::pair<std::string, std::function<void(LayerTar&, const std::string&)>>>
      kinds{{"file", [](LayerTar& t, const std::string& n) { t.file(n, "data"); }},
            {"dir", [](LayerTar& t, const std::string& n) { t.dir(n).file(n + "/in", ""); }},
            {"symlink", [](LayerTar& t, const std::string& n) { t.symlink(n, "target"); }},
            {"dirlink", [](LayerTar& t, const std::string& n) { t.symlink(n, "targetdir"); }},
            {"fifo", [](LayerTar& t, const std::string& n) { t.fifo(n); }},
            {"device", [](LayerTar& t, const std::string& n) { t.char_device(n, 1, 5); }},
            {"hardlink", [](LayerTar& t, const std::string& n) { t.hard_link(n, "target"); }}};
  for (const bool same_layer : {false, true}) {
    start_over();
    LayerTar lower;
    LayerTar layer;
    lower.file("target", "the target").dir("targetdir").file("targetdir/safe", "");
    LayerTar alone;
    alone.file("target", "the target").dir("targetdir").file("targetdir/safe", "");
    for (const auto& [old_name, write_old] : kinds)
      for (const auto& [new_name, write_new] : kinds) {
        const std::string name = old_name + "-" + new_name;
        write_old(same_layer ? layer : lower, name);
        write_new(layer, name);
        write_new(alone, name);
      }
    below(lower);
    const Tree merged = test::describe_tree(apply(layer));
    const UniqueFd expected = scratch_->make("expected");
    apply_bytes(alone.bytes(), expected.get());
    Tree want = test::describe_tree(expected.get());
    want.erase(".");
    Tree got = merged;
    got.erase(".");
    EXPECT_EQ(without_links(got), without_links(want)) << "same layer: " << same_layer;
  }
}

TEST_P(Apply, LinksInTheWayAreFollowedInsideTheRoot) {
  LayerTar lower;
  lower.dir("usr").dir("usr/bin", {.mode = 0711}).symlink("bin", "usr/bin");
  lower.symlink("abs", "/usr").symlink("climb", "../../../usr").symlink("out", "/etc");
  below(lower);
  LayerTar layer;
  layer.file("bin/tool", "1").file("abs/x", "2").file("climb/y", "3").file("out/veneer-test", "4");
  const int root = apply(layer);
  EXPECT_EQ(names_of(root),
            "abs bin climb etc etc/veneer-test out usr usr/bin usr/bin/tool usr/x usr/y");
  EXPECT_EQ(test::describe_tree(root).at("usr/bin"), "040711 0:0 1700000000.000000000");
  EXPECT_FALSE(exists_at(AT_FDCWD, RelPath::clamp("etc/veneer-test")));
}

TEST_P(Apply, LinksToWhatIsNotThereYetAreFollowed) {
  LayerTar lower;
  lower.symlink("l", "/run/./x").symlink("loop", "loop");
  below(lower);
  LayerTar layer;
  layer.file("l/f", "");
  EXPECT_EQ(names_of(apply(layer)), "l loop run run/x run/x/f");
  LayerTar looping;
  looping.symlink("loop", "loop").file("loop/f", "");
  test::Scratch other;
  EXPECT_THROW(apply_bytes(looping.bytes(), other.dir()), Error);
}

// The kernel does not follow "gone/..": in a layer it leads where it would if all were there.
TEST_P(Apply, LinksThroughWhatIsNotThereAreFollowed) {
  LayerTar lower;
  lower.file("y/old", "").file("y/kept", "").file("plain", "");
  below(lower);
  LayerTar layer;
  layer.symlink("gone", "x/../y").symlink("by-file", "plain/../z");
  layer.file("gone/new", "1").file("by-file/f", "2").whiteout("gone/old");
  layer.hard_link("linked", "gone/new").hard_link("gone/again", "by-file/f");
  const int root = apply(layer);
  EXPECT_EQ(names_of(root), "by-file gone linked plain y y/again y/kept y/new z z/f");
  EXPECT_EQ(read_file_at(root, "linked", 100), "1");
  EXPECT_EQ(read_file_at(root, "y/again", 100), "2");
}

TEST_P(Apply, WhiteoutsThroughLinksReachTheirTarget) {
  LayerTar lower;
  lower.dir("usr").file("usr/gone", "").file("usr/kept", "").symlink("l", "usr");
  below(lower);
  LayerTar layer;
  layer.whiteout("l/gone");
  EXPECT_EQ(names_of(apply(layer)), "l usr usr/kept");
}

TEST_P(Apply, AFileInTheWayOfADirectoryMakesRoom) {
  LayerTar lower;
  lower.file("p", "a file");
  below(lower);
  LayerTar layer;
  layer.file("p/child", "");
  EXPECT_EQ(names_of(apply(layer)), "p p/child");
}

TEST_P(Apply, OpaqueAtTheTop) {
  LayerTar lower;
  rows_below(lower);
  below(lower);
  LayerTar layer;
  layer.file("foo/mine", "").opaque("");
  EXPECT_EQ(names_of(apply(layer)), "foo foo/mine");
}

TEST_P(Apply, NamesAreTakenInsideTheRoot) {
  LayerTar layer;
  layer.file("/absolute", "").file("./dot/./x", "").dir("./").file("a/../b", "");
  EXPECT_EQ(names_of(apply(layer)), "absolute b dot dot/x");
}

TEST_P(Apply, WhatClimbsOutIsRefused) {
  for (const char* name : {"../evil", "a/../../evil", "/../evil"}) {
    LayerTar layer;
    layer.file(name, "");
    const std::string bytes = layer.bytes();
    test::Scratch other;
    try {
      apply_bytes(bytes, other.dir());
      FAIL() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::invalid_argument);
      EXPECT_NE(error.message().find(fmt::format("entry \"{}\" at offset 0", name)),
                std::string::npos)
          << error.message();
    }
  }
  LayerTar layer;
  layer.hard_link("passwd", "../../etc/passwd");
  EXPECT_THROW(apply(layer), Error);
}

TEST_P(Apply, HardLinksNeedTheirTarget) {
  for (const char* target : {"missing", "/etc/passwd", "dir"}) {
    test::Scratch other;
    LayerTar layer;
    layer.dir("dir").hard_link("l", target);
    EXPECT_THROW(apply_bytes(layer.bytes(), other.dir()), Error) << target;
  }
}

TEST_P(Apply, AHardLinkToASymlinkIsToTheLinkItself) {
  LayerTar layer;
  layer.symlink("l", "/etc/passwd").hard_link("m", "l").hard_link("l", "l");
  const int root = apply(layer);
  EXPECT_EQ(read_link_at(root, "m"), "/etc/passwd");
  EXPECT_EQ(stat_at(root, "m").st_ino, stat_at(root, "l").st_ino);
}

TEST_P(Apply, TheRootEntry) {
  LayerTar layer;
  layer.file("x", "").dir("./", {.mode = 0711, .uid = 4, .modified = {99, 0}});
  const int root = apply(layer);
  EXPECT_EQ(test::describe_tree(root).at("."), "040711 4:0 99.000000000");
  test::Scratch other;
  LayerTar bad;
  bad.symlink("./", "/etc");
  EXPECT_THROW(apply_bytes(bad.bytes(), other.dir()), Error);
}

TEST_P(Apply, ForgedOverlayXattrsAreDataOnly) {
  LayerTar lower;
  rows_below(lower);
  below(lower);
  LayerTar layer;
  layer.dir("d", {.mode = 0755, .xattrs = {{"trusted.overlay.opaque", "y"}}});
  layer.dir("foo", {.mode = 0755, .xattrs = {{"trusted.overlay.redirect", "/a"}}});
  const int root = apply(layer);
  EXPECT_EQ(names_of(root), "a a/b a/low d d/old d/sub d/sub/old2 f foo foo/bar");
  if (!through_overlay()) {
    EXPECT_EQ(maybe_xattr_at(root, "d", "trusted.overlay.overlay.opaque"), "y");
  }
}

// user:1000:rwx, as an xattr's value.
const std::string& acl() {
  static const std::string value(
      "\2\0\0\0\1\0\7\0\xff\xff\xff\xff\2\0\7\0\xe8\3\0\0\4\0\5\0\xff\xff\xff\xff"
      "\x10\0\7\0\xff\xff\xff\xff\x20\0\5\0\xff\xff\xff\xff",
      44);
  return value;
}

TEST_P(Apply, DefaultAclsAreNotInherited) {
  LayerTar layer;
  layer.dir("d", {.mode = 0755, .xattrs = {{"system.posix_acl_default", acl()}}});
  layer.file("d/f", "").dir("d/sub").file("d/implied/f", "");
  const Tree tree = test::describe_tree(apply(layer));
  EXPECT_NE(tree.at("d").find("system.posix_acl_default="), std::string::npos);
  EXPECT_EQ(tree.at("d/f"), "100644 0:0 1700000000.000000000 0 ");
  EXPECT_EQ(tree.at("d/sub"), "040755 0:0 1700000000.000000000");
  EXPECT_EQ(tree.at("d/implied"), "040755 0:0 0.000000000");
}

TEST_P(Apply, DefaultAclsOfAnOpenDirectoryAreNotInherited) {
  const test::Attributes with_acl{.mode = 0755, .xattrs = {{"system.posix_acl_default", acl()}}};
  LayerTar layer;
  // "d/top/d" names a directory that is open as "d".
  layer.file("f", "").dir("d").symlink("d/top", "..").file("d/f", "");
  layer.dir("d/top/d", with_acl).file("d/g", "").dir(".", with_acl).file("g", "");
  const Tree tree = test::describe_tree(apply(layer));
  for (const char* name : {"f", "g", "d/f", "d/g"})
    EXPECT_EQ(tree.at(name), "100644 0:0 1700000000.000000000 0 ") << name;
}

TEST_P(Apply, AufsLeftovers) {
  LayerTar layer;
  layer.dir(".wh..wh.plnk").file(".wh..wh.plnk/1.2", "shared").hard_link("a", ".wh..wh.plnk/1.2");
  layer.file(".wh..wh.aufs", "").dir(".wh..wh.orph").file(".wh..wh.orph/x", "");
  layer.dir("d").file("d/.wh..wh.x", "").dir("d/.wh..wh.orph").file("d/.wh..wh.orph/x", "");
  layer.file("d/x.wh.y", "").file(".wh..wh..opq/x", "");
  const int root = apply(layer);
  EXPECT_EQ(names_of(root), "a d d/x.wh.y");
  EXPECT_EQ(read_file_at(root, "a", 100), "shared");
}

TEST_P(Apply, NothingIsInAWhiteout) {
  for (const char* name : {".wh.x/f", "d/.wh.x/f", "d/.wh.x/d/f"}) {
    test::Scratch other;
    LayerTar layer;
    layer.file(name, "");
    EXPECT_THROW(apply_bytes(layer.bytes(), other.dir()), Error) << name;
  }
}

TEST_P(Apply, TheIdThatIsNoneIsRefused) {
  test::Scratch other;
  LayerTar layer;
  layer.file("f", "", {.uid = 4294967295U});
  EXPECT_THROW(apply_bytes(layer.bytes(), other.dir()), Error);
}

TEST_P(Apply, MalformedWhiteouts) {
  for (const char* name : {".wh.", ".wh..", ".wh...", "d/.wh.."}) {
    test::Scratch other;
    LayerTar layer;
    layer.file(name, "");
    EXPECT_THROW(apply_bytes(layer.bytes(), other.dir()), Error) << name;
  }
}

TEST_P(Apply, DirectoryTimesAreRightAtTheEnd) {
  LayerTar layer;
  layer.dir("d", {.mode = 0755, .modified = {10, 0}});
  layer.dir("d/e", {.mode = 0555, .modified = {20, 0}});
  layer.file("d/e/f", "").file("d/g", "").whiteout("d/never-there");
  const Tree tree = test::describe_tree(apply(layer));
  EXPECT_EQ(tree.at("d"), "040755 0:0 10.000000000");
  EXPECT_EQ(tree.at("d/e"), "040555 0:0 20.000000000");
}

TEST_P(Apply, IdMaps) {
  test::Scratch other;
  LayerTar layer;
  layer.file("f", "", {.uid = 5, .gid = 6}).file("implied/g", "");
  ApplyOptions options;
  options.id_maps = {IdMap::parse("0:100000:65536"), IdMap::parse("0:200000:65536")};
  apply_bytes(layer.bytes(), other.dir(), options);
  EXPECT_EQ(test::describe_tree(other.dir()).at("f"),
            "100644 100005:200006 1700000000.000000000 0 ");
  EXPECT_EQ(test::describe_tree(other.dir()).at("implied"), "040755 100000:200000 0.000000000");
  LayerTar outside;
  outside.file("f", "", {.uid = 70000});
  EXPECT_THROW(apply_bytes(outside.bytes(), other.dir(), options), Error);
}

TEST_P(Apply, BodiesOfEverySize) {
  LayerTar layer;
  std::map<std::string, std::string> bodies;
  for (const size_t size :
       {size_t{0}, size_t{1}, FileWriter::kLargestBody - 1, FileWriter::kLargestBody,
        FileWriter::kLargestBody + 1, 3 * kChunkBytes})
    bodies[std::to_string(size)] = std::string(size, static_cast<char>('a' + bodies.size()));
  for (const auto& [name, body] : bodies) layer.file(name, body);
  const int root = apply(layer);
  for (const auto& [name, body] : bodies)
    EXPECT_EQ(read_file_at(root, RelPath::parse(name), kChunkBytes * 4), body) << name;
}

TEST_P(Apply, NamesChangeWhileBodiesAreWritten) {
  LayerTar layer;
  for (int round = 0; round < 200; ++round) {
    const std::string text = std::to_string(round);
    layer.file("replaced", text, {.mode = 04755, .uid = 7, .gid = 8}).file("kept" + text, text);
    layer.hard_link("replaced" + text, "replaced");
  }
  const int root = apply(layer);
  EXPECT_EQ(list_dir(open_dir_at(root, ".").get()).size(), 401u);
  for (int round = 0; round < 200; ++round) {
    const std::string text = std::to_string(round);
    const RelPath linked = RelPath::parse("replaced" + text);
    EXPECT_EQ(read_file_at(root, linked, 10), text);
    EXPECT_EQ(read_file_at(root, RelPath::parse("kept" + text), 10), text);
    EXPECT_EQ(stat_at(root, linked).st_mode, S_IFREG | 04755u);
    EXPECT_EQ(stat_at(root, linked).st_uid, 7u);
    EXPECT_EQ(stat_at(root, linked).st_mtim.tv_sec, 1700000000);
  }
}

TEST_P(Apply, WhatIsStillBeingWrittenCanBeAnythingNext) {
  LayerTar layer;
  layer.file("file", "1").file("file", "2", {.mode = 0600});
  layer.file("directory", "3").dir("directory").file("directory/f", "4");
  layer.file("link", "5").symlink("link", "directory").file("link/g", "6");
  layer.file("implied", "7").file("implied/f", "8");
  layer.file("hidden", "9").whiteout("hidden").opaque("implied").file("fifo", "10").fifo("fifo");
  const int root = apply(layer);
  EXPECT_EQ(names_of(root),
            "directory directory/f directory/g fifo file hidden implied implied/f link");
  EXPECT_EQ(read_file_at(root, "file", 10), "2");
  EXPECT_EQ(stat_at(root, "file").st_mode, S_IFREG | 0600u);
  EXPECT_EQ(read_file_at(root, "hidden", 10), "9");
  EXPECT_EQ(stat_at(root, "fifo").st_mode, S_IFIFO | 0644u);
}

// More directories than stay open, left and come back to at every depth.
TEST_P(Apply, DirectoriesAreComeBackTo) {
  constexpr int kDepth = 40;
  LayerTar layer;
  std::vector<std::string> paths{""};
  for (int depth = 0; depth < kDepth; ++depth) paths.push_back(paths.back() + "d/");
  for (const std::string& path : paths) layer.file(path + "down", path);
  for (size_t i = paths.size(); i-- > 0;) layer.file(paths[i] + "up", paths[i]);
  const int root = apply(layer);
  for (const std::string& path : paths)
    for (const char* name : {"down", "up"})
      EXPECT_EQ(read_file_at(root, RelPath::parse(path + name), 200), path);
}

TEST_P(Apply, TheEndOfTheTarIsRead) {
  LayerTar layer;
  layer.file("f", "12345").file("g", "123");
  std::string bytes = layer.bytes();
  bytes.append(3000, 'x');
  MemorySource memory(std::as_bytes(std::span(bytes)));
  HashingSource source(memory);
  test::Scratch other;
  EXPECT_EQ(apply_layer(source, other.dir(), {}), 8u);
  EXPECT_EQ(source.count(), bytes.size());
}

}  // namespace
}  // namespace veneer
