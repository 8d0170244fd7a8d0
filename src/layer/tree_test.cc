#include "layer/tree.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "base/error.h"

namespace veneer {
namespace {

using tar::EntryType;

// What the layers below have, and how often they were asked.
class Lower final : public LowerNames {
 public:
  Lower& dir(const std::string& path) { return add(path, S_IFDIR | 0750, ""); }
  Lower& file(const std::string& path) { return add(path, S_IFREG | 0640, ""); }
  Lower& link(const std::string& path, std::string target) {
    return add(path, S_IFLNK | 0777, std::move(target));
  }

  std::optional<LowerEntry> find(const RelPath& path) const override {
    ++finds_;
    const auto found = entries_.find(path.str());
    if (found == entries_.end()) return std::nullopt;
    return found->second;
  }
  std::vector<std::string> list_root() const override {
    std::vector<std::string> names;
    for (const auto& [path, entry] : entries_)
      if (!path.empty() && !path.contains('/')) names.push_back(path);
    return names;
  }
  size_t finds() const { return finds_; }

 private:
  Lower& add(const std::string& path, mode_t mode, std::string target) {
    LowerEntry& entry = entries_[path];
    entry.st.st_mode = mode;
    entry.link_target = std::move(target);
    return *this;
  }

  std::map<std::string, LowerEntry, std::less<>> entries_;
  mutable size_t finds_ = 0;
};

tar::Entry entry(EntryType type, std::string path, std::string target = "") {
  tar::Entry entry;
  entry.type = type;
  entry.path = std::move(path);
  entry.mode = 0755;
  entry.link_target = std::move(target);
  return entry;
}
tar::Entry file(std::string path) {
  return entry(EntryType::file, std::move(path));
}
tar::Entry dir(std::string path) {
  return entry(EntryType::directory, std::move(path));
}
tar::Entry symlink(std::string path, std::string target) {
  return entry(EntryType::symlink, std::move(path), std::move(target));
}
tar::Entry hard_link(std::string path, std::string target) {
  return entry(EntryType::hard_link, std::move(path), std::move(target));
}

// Everything that a tree is written as, one line a name.
class Lines final : public TreeWriter {
 public:
  explicit Lines(const LayerTree& tree) { tree.write(*this); }
  void enter(std::string_view name, const Directory& directory) override {
    add_line(name, fmt::format("{:o}{}{}", directory.attributes.mode & 07777,
                               directory.opaque ? " opaque" : "",
                               directory.has_whiteouts ? " whiteouts" : ""));
    path_.push_back(path_.empty() ? "" : std::string(name) + "/");
  }
  void leave() override { path_.pop_back(); }
  void add(std::string_view name, InodeId, const TreeInode&) override { add_line(name, "entry"); }
  void add_whiteout(std::string_view name) override { add_line(name, "whiteout"); }
  void add_lower_link(std::string_view name, const RelPath& target) override {
    add_line(name, "lower " + target.str());
  }
  const std::string& text() const { return text_; }

 private:
  void add_line(std::string_view name, const std::string& what) {
    for (const std::string& above : path_) text_ += above;
    text_ += fmt::format("{} {}\n", name, what);
  }
  std::vector<std::string> path_;
  std::string text_;
};

using Entries = std::vector<tar::Entry>;

void add_all(LayerTree& tree, const Entries& entries) {
  for (const tar::Entry& entry : entries) tree.add(entry);
}

// What a layer is over `lower`. Where the lower layers can be adopted, that comes to the same as
// to have known them from the start.
std::string over(const Lower& lower, const Entries& entries) {
  LayerTree known(&lower);
  add_all(known, entries);
  const std::string text = Lines(known).text();
  LayerTree adopted;
  add_all(adopted, entries);
  if (!adopted.depends_on_lower()) {
    EXPECT_EQ(known.lower_digest(), std::nullopt);
    EXPECT_EQ(Lines(adopted).text(), text);
  } else if (adopted.adopt_lower(lower)) {
    EXPECT_EQ(adopted.lower_digest(), known.lower_digest());
    EXPECT_EQ(Lines(adopted).text(), text);
  }
  return text;
}

bool can_adopt(const Lower& lower, const Entries& entries) {
  LayerTree tree;
  add_all(tree, entries);
  return tree.adopt_lower(lower);
}

TEST(LayerTree, MarksOfAMissingDirectoryAreNothing) {
  Lower lower;
  lower.dir("");
  EXPECT_EQ(over(lower, {file("no/deep/.wh.x"), file("other/.wh..wh..opq")}), " 750\n");
  lower.file("no");
  EXPECT_EQ(over(lower, {file("no/.wh.x")}), " 750\n");
}

TEST(LayerTree, MarksBeforeTheirDirectoryAreAsGoodAsAfter) {
  Lower lower;
  lower.dir("");
  EXPECT_EQ(over(lower, {dir("./"), dir("d"), file("d/.wh.x")}),
            over(lower, {dir("./"), file("d/.wh.x"), dir("d")}));
  EXPECT_EQ(over(lower, {dir("./"), file("d/.wh..wh..opq"), dir("d")}),
            over(lower, {dir("./"), dir("d"), file("d/.wh..wh..opq")}));
}

TEST(LayerTree, AnOpaqueRootHidesOnceWhateverIsMarkedInIt) {
  Lower lower;
  lower.dir("").dir("d").file("d/f").file("f");
  const std::string wanted = " 755 whiteouts\nd whiteout\nf whiteout\nnew 755\nnew/f entry\n";
  EXPECT_EQ(over(lower, {dir("./"), file(".wh..wh..opq"), file("new/f")}), wanted);
  EXPECT_EQ(over(lower, {dir("./"), file(".wh..wh..opq"), file("new/f"), file("d/.wh.f"),
                         file("no/.wh.f"), file(".wh..wh..opq")}),
            wanted);
}

TEST(LayerTree, LinksOfLowerLayersAreFollowedUntilTheyAreHidden) {
  Lower lower;
  lower.dir("").dir("d").link("l", "d").dir("e").link("e/l", "../d");
  EXPECT_EQ(over(lower, {dir("./"), file("l/x"), file(".wh.l"), file("l/y")}),
            " 755\nd 750\nd/x entry\nl 755 opaque\nl/y entry\n");
  // Hidden from above: by a mark on what is an entry, with the link further down.
  const Entries entries{dir("./"), dir("e"), file("e/l/x"), file("e/.wh..wh..opq")};
  EXPECT_EQ(over(lower, entries), " 755\nd 750\nd/x entry\ne 755 opaque\n");
  EXPECT_FALSE(can_adopt(lower, entries));
  EXPECT_TRUE(can_adopt(lower, {dir("./"), dir("e"), file("e/.wh..wh..opq"), file("e/l/x")}));
}

// Only the walk itself shows that the lower layers have a link there.
TEST(LayerTree, LinksOfLowerLayersAreFollowedInTargetsToo) {
  Lower lower;
  lower.dir("").dir("d").dir("d/sub").link("a", "d/sub");
  const Entries entries{dir("./"), symlink("l", "a/../b"), file("l/x")};
  EXPECT_EQ(over(lower, entries), " 755\nd 750\nd/b 755\nd/b/x entry\nl entry\n");
  EXPECT_FALSE(can_adopt(lower, entries));
}

// In the plain tree the link's target is a directory; over the lower layers it is a file.
TEST(LayerTree, AHardLinkThatTheLowerLayersMakeGood) {
  Lower lower;
  lower.dir("").dir("d").link("l", "d");
  const Entries entries{dir("./"), dir("l/f"), file("d/f"), hard_link("x", "l/f")};
  EXPECT_EQ(over(lower, entries), " 755\nd 750\nd/f entry\nx entry\n");
  EXPECT_FALSE(can_adopt(lower, entries));
  LayerTree plain;
  add_all(plain, entries);
  EXPECT_TRUE(plain.depends_on_lower() && plain.has_lower_links());
}

TEST(LayerTree, ABrokenHardLinkIsRefusedAtOnceWhereItIsCertain) {
  LayerTree tree;
  add_all(tree, {dir("./"), dir("d"), file("d/f")});
  EXPECT_THROW(tree.add(hard_link("x", "d")), Error);
  EXPECT_THROW(tree.add(hard_link("d", "d/f")), Error);
  EXPECT_THROW(tree.add(hard_link("x", "d/f/y")), Error);
  EXPECT_THROW(tree.add(hard_link("x", "/")), Error);
}

TEST(LayerTree, AFileInTheWayOfADirectoryMakesRoom) {
  Lower lower;
  lower.dir("").dir("f");
  EXPECT_EQ(over(lower, {dir("./"), file("f"), file("f/g/.wh.x"), file("f/g/h")}),
            " 755\nf 755 opaque\nf/g 755\nf/g/h entry\n");
}

// Each directory that no entry names is looked for once, and not below one that is missing.
TEST(LayerTree, AsksOncePerImpliedDirectory) {
  constexpr size_t kChains = 200;
  constexpr size_t kDepth = 500;
  Lower lower;
  lower.dir("");
  std::string deep;
  for (size_t i = 0; i < kDepth; ++i) deep += "/d";
  LayerTree tree;
  LayerTree known(&lower);
  for (size_t i = 0; i < kChains; ++i) {
    for (const std::string name : {"/f", "/.wh.x"}) {
      tree.add(file(fmt::format("{}{}{}", i, deep, name)));
      known.add(file(fmt::format("{}{}{}", i, deep, name)));
    }
  }
  EXPECT_LE(lower.finds(), kChains + 1);
  EXPECT_TRUE(tree.adopt_lower(lower));
  EXPECT_LE(lower.finds(), 2 * (kChains + 1));
  EXPECT_EQ(tree.lower_digest(), known.lower_digest());
  EXPECT_EQ(Lines(tree).text(), Lines(known).text());
}

// Were what is in a directory gone through each time that it makes room or is marked, this would
// take 20 billion steps.
TEST(LayerTree, WhatIsDroppedIsNotMetAgain) {
  LayerTree tree;
  tree.add(dir("./"));
  constexpr int kNames = 200'000;
  for (int i = 0; i < kNames; ++i) tree.add(file(fmt::format("d/{}", i)));
  for (int i = 0; i < kNames / 2; ++i) {
    tree.add(file("d/.wh..wh..opq"));
    tree.add(file(".wh.d"));
    tree.add(file("d"));
    tree.add(file("d/0"));
  }
  EXPECT_EQ(Lines(tree).text(), " 755\nd 755 opaque\nd/0 entry\n");
}

}  // namespace
}  // namespace veneer
