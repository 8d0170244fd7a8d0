#include "bin/json_out.h"

#include <gtest/gtest.h>

using std::string_view_literals::operator""sv;

namespace veneer {
namespace {

std::string quoted(std::string_view text) {
  return JsonOut().string(text).text();
}

TEST(JsonOut, PutsCommasAndColons) {
  JsonOut json;
  json.begin_object().key("id").string("a").key("empty").begin_array().end_array();
  json.key("list").begin_array().number(0).number(UINT64_MAX).null();
  json.begin_object().end_object().begin_object().key("x").boolean(false).end_object();
  json.end_array().key("last").boolean(true).end_object();
  EXPECT_EQ(json.text(),
            R"({"id":"a","empty":[],"list":[0,18446744073709551615,null,{},{"x":false}],)"
            R"("last":true})");
}

TEST(JsonOut, EscapesWhatJsonMustNotHold) {
  EXPECT_EQ(quoted("plain /path"), R"("plain /path")");
  EXPECT_EQ(quoted("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(quoted("\n\t\x1b[0m\x7f\0"sv), R"("\u000a\u0009\u001b[0m\u007f\u0000")");
}

TEST(JsonOut, TakesWholeValuesAsTheyAre) {
  JsonOut json;
  json.begin_array().raw(R"({"a":1})").raw("[]").number(2).end_array();
  EXPECT_EQ(json.text(), R"([{"a":1},[],2])");
}

TEST(JsonOut, KeepsUtf8AndReplacesWhatIsNot) {
  EXPECT_EQ(quoted("é€😀"), "\"é€😀\"");
  EXPECT_EQ(quoted("a\xff\xfe"), "\"a\xef\xbf\xbd\xef\xbf\xbd\"");
  EXPECT_EQ(quoted("\xe2\x82"), "\"\xef\xbf\xbd\xef\xbf\xbd\"") << "cut off in the middle";
}

TEST(Utf8Length, TakesRfc3629AndNothingElse) {
  EXPECT_EQ(utf8_length("a"), 1U);
  EXPECT_EQ(utf8_length("\0"sv), 1U);
  EXPECT_EQ(utf8_length("\xc2\x80"), 2U);
  EXPECT_EQ(utf8_length("\xed\x9f\xbf"), 3U);
  EXPECT_EQ(utf8_length("\xf4\x8f\xbf\xbf"), 4U);
  for (const std::string_view bad :
       {""sv, "\x80"sv, "\xc0\x80"sv, "\xc1\xbf"sv, "\xe0\x9f\xbf"sv, "\xed\xa0\x80"sv,
        "\xf0\x8f\xbf\xbf"sv, "\xf4\x90\x80\x80"sv, "\xf5\x80\x80\x80"sv, "\xc2"sv, "\xc2\x41"sv,
        "\xe2\x82\x41"sv, "\xf0\x9f\x98"sv}) {
    EXPECT_EQ(utf8_length(bad), 0U);
  }
}

}  // namespace
}  // namespace veneer
