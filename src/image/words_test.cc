#include "image/words.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace veneer {
namespace {

std::optional<std::string> lookup(std::string_view name) {
  if (name == "A") return "one";
  if (name == "B_2") return "two words";
  if (name == "EMPTY") return "";
  return {};
}

std::string expand(std::string_view text) {
  return expand_word(text, lookup);
}

TEST(Words, AreSplitAtWhiteSpace) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(split_words("a  b\tc "), (Words{"a", "b", "c"}));
  EXPECT_EQ(split_words(R"(a="x y" b='p "q' c\ d)"),
            (Words{R"(a="x y")", R"(b='p "q')", R"(c\ d)"}));
  EXPECT_EQ(split_words(R"("a\" b" c)"), (Words{R"("a\" b")", "c"}));
  EXPECT_EQ(split_words(""), Words{});
  EXPECT_THROW(split_words("a 'b"), Error);
  EXPECT_THROW(split_words("a \"b"), Error);
}

TEST(Words, LoseTheirQuotes) {
  EXPECT_EQ(expand(R"(a'b $A'c)"), "ab $Ac");
  EXPECT_EQ(expand(R"("x \" \$ \\ \n '$A'")"), R"(x " $ \ \n 'one')");
  EXPECT_EQ(expand(R"(a\ b\'c\$A)"), "a b'c$A");
  EXPECT_EQ(expand("\\"), "\\");
  EXPECT_THROW(expand("'a"), Error);
  EXPECT_THROW(expand("\"a"), Error);
}

TEST(Words, HaveVariables) {
  EXPECT_EQ(expand("$A-${B_2}$NONE."), "one-two words.");
  EXPECT_EQ(expand("$ $1 $A1x ${A}1x"), "$ $1  one1x");
  EXPECT_EQ(expand("${A:-x}${NONE:-x y}${EMPTY:-$A}${NONE:-${A}}"), "onex yoneone");
  EXPECT_EQ(expand("${A:+x}${NONE:+x}${EMPTY:+x}"), "x");
  for (const char* text : {"${", "${A", "${}", "${A:-b", "${A:=b}", "${A%b}", "${1}"})
    EXPECT_THROW(expand(text), Error) << text;
}

TEST(Words, NestSoDeep) {
  std::string text = "x";
  for (int depth = 0; depth < 16; ++depth) text = "${N:-" + text + "}";
  EXPECT_EQ(expand(text), "x");
  EXPECT_THROW(expand("${N:-" + text + "}"), Error);
}

}  // namespace
}  // namespace veneer
