#include "bin/output.h"

#include <gtest/gtest.h>

using std::string_view_literals::operator""sv;

namespace veneer {
namespace {

TEST(Printable, CannotSteerATerminal) {
  EXPECT_EQ(printable("/usr/lib/é €"), "/usr/lib/é €");
  EXPECT_EQ(printable("a\nb\x1b[2J\x7f\0"sv), R"(a\x0ab\x1b[2J\x7f\x00)");
  EXPECT_EQ(printable("\xc2\x9b[2J"), R"(\xc2\x9b[2J)") << "the one-character CSI";
  EXPECT_EQ(printable("\xc2\xa0"), "\xc2\xa0");
  EXPECT_EQ(printable("a\xff\xc3"), R"(a\xff\xc3)");
}

TEST(Printable, CanBeUndone) {
  EXPECT_EQ(printable(R"(a\x0a)"), R"(a\\x0a)");
}

TEST(HumanSize, HasOneDecimalAndTheRightUnit) {
  EXPECT_EQ(human_size(0), "0 B");
  EXPECT_EQ(human_size(999), "999 B");
  EXPECT_EQ(human_size(1000), "1.0 kB");
  EXPECT_EQ(human_size(12'345'678), "12.3 MB");
  EXPECT_EQ(human_size(999'949), "999.9 kB");
  EXPECT_EQ(human_size(999'950), "1.0 MB");
  EXPECT_EQ(human_size(UINT64_MAX), "18.4 EB");
  EXPECT_EQ(human_count(0, "layer"), "0 layers");
  EXPECT_EQ(human_count(1, "layer"), "1 layer");
  EXPECT_EQ(human_count(2, "layer"), "2 layers");
}

TEST(HumanAge, HasOneUnit) {
  using std::chrono::days;
  using std::chrono::hours;
  using std::chrono::milliseconds;
  using std::chrono::seconds;
  const Time now = std::chrono::sys_days(std::chrono::year(2026) / 11 / 24);
  const auto age = [&](auto duration) { return human_age(now - duration, now); };
  EXPECT_EQ(age(milliseconds(999)), "less than a second ago");
  EXPECT_EQ(age(seconds(1)), "1 second ago");
  EXPECT_EQ(age(seconds(59)), "59 seconds ago");
  EXPECT_EQ(age(seconds(119)), "1 minute ago");
  EXPECT_EQ(age(hours(47)), "47 hours ago");
  EXPECT_EQ(age(hours(48)), "2 days ago");
  EXPECT_EQ(age(days(14)), "2 weeks ago");
  EXPECT_EQ(age(days(60)), "2 months ago");
  EXPECT_EQ(age(days(729)), "24 months ago");
  EXPECT_EQ(age(days(731)), "2 years ago");
  EXPECT_EQ(human_age(Time(), now), "56 years ago");
  EXPECT_EQ(age(-seconds(1)), "in the future");
}

TEST(Rfc3339, IsExact) {
  using std::chrono::nanoseconds;
  EXPECT_EQ(rfc3339(Time()), "1970-01-01T00:00:00Z");
  EXPECT_EQ(rfc3339(Time(nanoseconds(1'600'000'000'500'000'000))), "2020-09-13T12:26:40.5Z");
  EXPECT_EQ(rfc3339(Time(nanoseconds(-1))), "1969-12-31T23:59:59.999999999Z");
}

TEST(Table, AlignsByCharactersAndPadsNoLastCell) {
  Table table;
  table.row({"NAME", "FOR", "X"});
  table.row({"é€", "something long", ""});
  table.row({"a\n", "b"});
  EXPECT_EQ(table.text(),
            "NAME   FOR             X\n"
            "é€     something long\n"
            "a\\x0a  b\n");
}

TEST(Table, IsEmptyWithoutRows) {
  EXPECT_EQ(Table().text(), "");
}

}  // namespace
}  // namespace veneer
