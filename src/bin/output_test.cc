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
