#include "image/json.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "image/test_image.h"

namespace veneer {
namespace {

using test::expect_error;

std::string repeated(std::string_view text, size_t count) {
  std::string all;
  for (size_t i = 0; i < count; ++i) all += text;
  return all;
}

TEST(Json, GettersGiveWhatIsThere) {
  const Json json = Json::parse(
      R"( {"s":"a\u00e9","n":18446744073709551615,"o":{"x":"y"},"a":["p","q"],"z":null} )");
  EXPECT_EQ(json.string("s"), "a\u00e9");
  EXPECT_EQ(json.number("n"), UINT64_MAX);
  EXPECT_EQ(json.object("o").string("x"), "y");
  EXPECT_EQ(json.strings("a"), (std::vector<std::string>{"p", "q"}));
  EXPECT_TRUE(json.has("s"));
}

TEST(Json, NullIsAbsent) {
  const Json json = Json::parse(R"({"z":null})");
  EXPECT_FALSE(json.has("z"));
  EXPECT_FALSE(json.maybe_string("z"));
  EXPECT_EQ(json.maybe_object("z"), nullptr);
  EXPECT_TRUE(json.array("z").empty());
  EXPECT_TRUE(json.strings("absent").empty());
  for (const char* key : {"z", "absent"}) {
    expect_error(Code::corrupt, {key, "missing"}, [&] { json.string(key); });
    expect_error(Code::corrupt, {key, "missing"}, [&] { json.number(key); });
    expect_error(Code::corrupt, {key, "missing"}, [&] { json.object(key); });
  }
}

TEST(Json, TheLastOfDuplicateKeysCounts) {
  EXPECT_EQ(Json::parse(R"({"a":1,"b":2,"a":3})").number("a"), 3u);
  EXPECT_FALSE(Json::parse(R"({"a":1,"a":null})").has("a"));
}

TEST(Json, KeysMatchExactly) {
  EXPECT_FALSE(Json::parse(R"({"A":1})").has("a"));
}

TEST(Json, OtherTypesAreCorrupt) {
  const Json json = Json::parse(R"({"s":"x","n":1,"o":{},"a":[],"b":true})");
  for (const char* key : {"n", "o", "a", "b"})
    expect_error(Code::corrupt, {key, "not a string"}, [&] { json.maybe_string(key); });
  for (const char* key : {"s", "o", "a", "b"})
    expect_error(Code::corrupt, {key, "not a whole number"}, [&] { json.number(key); });
  for (const char* key : {"s", "n", "a", "b"})
    expect_error(Code::corrupt, {key, "not an object"}, [&] { json.maybe_object(key); });
  for (const char* key : {"s", "n", "o", "b"})
    expect_error(Code::corrupt, {key, "not an array"}, [&] { json.array(key); });
  expect_error(Code::corrupt, {"array"}, [&] { json.elements(); });
  expect_error(Code::corrupt, {"object"}, [] { Json::parse("[]").has("a"); });
  expect_error(Code::corrupt, {"l", "holds a number"},
               [] { Json::parse(R"({"l":["a",1]})").strings("l"); });
}

TEST(Json, NumbersAreWholeAndNotNegative) {
  for (const char* number : {"-1", "1.0", "1e3", "18446744073709551616", "-0.5"})
    expect_error(Code::corrupt, {"\"n\""},
                 [&] { Json::parse(std::string(R"({"n":)") + number + "}").number("n"); });
}

TEST(Json, WhatIsNotOneTextIsCorrupt) {
  for (const std::string_view text :
       {"", " ", "{", "[1,]", "{}{}", "{} x", "{'a':1}", "nul", "\"\xff\"", "\"a\nb\"", "1e999",
        "[1 2]", "{\"a\"}", "// c\n{}"})
    expect_error(Code::corrupt, {"not valid JSON at byte"}, [&] { Json::parse(text); });
}

TEST(Json, DepthIsLimited) {
  for (const auto& [open, close] : {std::pair("[", "]"), std::pair("{\"a\":", "}")}) {
    const auto nested = [&](size_t depth) {
      return repeated(open, depth - 1) + "[]" + repeated(close, depth - 1);
    };
    EXPECT_NO_THROW(Json::parse(nested(limits::kJsonDepth)));
    expect_error(Code::resource_exhausted, {"deeper"},
                 [&] { Json::parse(nested(limits::kJsonDepth + 1)); });
  }
}

TEST(Json, SizeIsLimited) {
  const auto text = [](size_t size) { return "0" + std::string(size - 1, ' '); };
  EXPECT_NO_THROW(Json::parse(text(limits::kJsonBytes)));
  expect_error(Code::resource_exhausted, {"bytes"},
               [&] { Json::parse(text(limits::kJsonBytes + 1)); });
}

TEST(Json, TheNumberOfValuesIsLimited) {
  const auto text = [](size_t values) { return "[[]" + repeated(",[]", values - 2) + "]"; };
  EXPECT_EQ(Json::parse(text(limits::kJsonValues)).elements().size(), limits::kJsonValues - 1);
  expect_error(Code::resource_exhausted, {"values"},
               [&] { Json::parse(text(limits::kJsonValues + 1)); });
}

TEST(JsonTree, KeepsWhatIsNotSet) {
  const std::string text =
      R"({"z":1,"a":[1.25,-3,18446744073709551615,null,true],"o":{"x":{"y":"\u00e4\n"}}})";
  JsonTree tree = JsonTree::parse(text);
  EXPECT_EQ(tree.text(), R"({"z":1,"a":[1.25,-3,18446744073709551615,null,true],)"
                         R"("o":{"x":{"y":"ä\n"}}})");
  tree.set({"o", "x", "new"}, std::vector<std::string>{"s"});
  tree.append({"a"}, uint64_t{7});
  tree.set({"z"}, false);
  tree.remove({"o", "x", "y"});
  tree.remove({"o", "absent", "y"});
  EXPECT_EQ(tree.text(), R"({"z":false,"a":[1.25,-3,18446744073709551615,null,true,7],)"
                         R"("o":{"x":{"new":["s"]}}})");
}

TEST(JsonTree, MakesWhatIsMissing) {
  JsonTree tree = JsonTree::parse(R"({"n":null})");
  tree.set({"n", "a"}, "b");
  tree.append({"l", "m"}, JsonTree());
  EXPECT_EQ(tree.text(), R"({"n":{"a":"b"},"l":{"m":[{}]}})");
  EXPECT_EQ(JsonTree::array().text(), "[]");
}

TEST(JsonTree, RefusesWhatIsNot) {
  JsonTree tree = JsonTree::parse(R"({"s":"text"})");
  EXPECT_THROW(tree.set({"s", "a"}, "b"), Error);
  EXPECT_THROW(tree.append({"s"}, "b"), Error);
  EXPECT_THROW(JsonTree::parse("{"), Error);
  JsonTree bad;
  bad.set({"a"}, "\xff");
  EXPECT_THROW((void)bad.text(), Error);
}

}  // namespace
}  // namespace veneer
