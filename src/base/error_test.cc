#include "base/error.h"

#include <gtest/gtest.h>

namespace veneer {
namespace {

TEST(Error, CheckPassesResultsOn) {
  EXPECT_EQ(check(5, "nothing"), 5);
}

TEST(Error, CheckSaysWhatWhereAndWhy) {
  errno = ENOENT;
  try {
    check(-1, "open {}", "x/y");
    FAIL();
  } catch (SysError& error) {
    EXPECT_EQ(error.error_number(), ENOENT);
    EXPECT_EQ(error.code(), Code::io);
    EXPECT_EQ(error.message(), "open x/y: No such file or directory");
    error.add_context("layer 1");
    EXPECT_STREQ(error.what(), "layer 1: open x/y: No such file or directory");
  }
}

TEST(Error, AFullDiskIsResourceExhausted) {
  EXPECT_EQ(SysError(ENOSPC, "write").code(), Code::resource_exhausted);
  EXPECT_EQ(SysError(EOPNOTSUPP, "mount").code(), Code::unsupported);
}

}  // namespace
}  // namespace veneer
