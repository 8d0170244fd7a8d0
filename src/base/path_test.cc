#include "base/path.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace veneer {
namespace {

TEST(RelPath, ClampStopsAtTheRoot) {
  EXPECT_EQ(RelPath::clamp("../../etc/passwd").str(), "etc/passwd");
  EXPECT_EQ(RelPath::clamp("/a//b/./c/").str(), "a/b/c");
  EXPECT_EQ(RelPath::clamp("a/../b").str(), "b");
  EXPECT_EQ(RelPath::clamp("a/b/../../../c").str(), "c");
  EXPECT_EQ(RelPath::clamp("./").str(), "");
  EXPECT_EQ(RelPath::clamp("").str(), "");
  EXPECT_EQ(RelPath::clamp("..a/b..").str(), "..a/b..");
}

TEST(RelPath, AssignTellsOfClimbing) {
  RelPath path;
  EXPECT_TRUE(path.assign_clamped("a/../b"));
  EXPECT_FALSE(path.assign_clamped("a/../../b"));
  EXPECT_EQ(path.str(), "b");
}

TEST(RelPath, ANulIsRefused) {
  EXPECT_THROW(RelPath::clamp(std::string_view("a\0b", 3)), Error);
}

TEST(RelPath, ParseTakesOnlyTheNormalForm) {
  EXPECT_EQ(RelPath::parse("a/b").str(), "a/b");
  EXPECT_EQ(RelPath::parse(".").str(), "");
  for (const char* text : {"/a", "a/", "a//b", "a/./b", "../a", "a/..", ".."})
    EXPECT_THROW(RelPath::parse(text), Error) << text;
}

TEST(RelPath, NamesAreOneComponent) {
  EXPECT_EQ(RelPath::parse_name("x.y", "id").str(), "x.y");
  for (const char* text : {"", ".", "..", "a/b", "/"})
    EXPECT_THROW(RelPath::parse_name(text, "id"), Error) << text;
}

TEST(RelPath, Parts) {
  RelPath path = RelPath::parse("a/b/c");
  EXPECT_EQ(path.parent(), "a/b");
  EXPECT_EQ(path.name(), "c");
  EXPECT_STREQ(path.leaf().c_str(), "c");
  EXPECT_EQ(path.depth(), 3u);
  path.pop();
  path.pop();
  EXPECT_EQ(path.parent(), "");
  EXPECT_EQ(path.name(), "a");
  path.pop();
  EXPECT_STREQ(path.c_str(), ".");
  EXPECT_STREQ(path.leaf().c_str(), ".");
  EXPECT_EQ(path.depth(), 0u);
  EXPECT_EQ((path / "x").str(), "x");
}

}  // namespace
}  // namespace veneer
