#include "rpc/log.h"

#include <gtest/gtest.h>

namespace veneer {
namespace {

TEST(Log, ALineIsOneLine) {
  EXPECT_EQ(log_line(Log::Level::info, {}), "level=info");
  EXPECT_EQ(log_line(Log::Level::error, {{"call", "Prepare"}, {"key", "a b"}, {"empty", ""}}),
            "level=error call=Prepare key=\"a b\" empty=\"\"");
  EXPECT_EQ(log_line(Log::Level::debug, {{"x", "a\nlevel=error \"\\\x7f"}, {"y", "é/1:2"}}),
            "level=debug x=\"a\\x0alevel=error \\\"\\\\\\x7f\" y=\"é/1:2\"");
}

}  // namespace
}  // namespace veneer
