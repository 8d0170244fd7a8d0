#include "graphdriver/write_behind.h"

#include <gtest/gtest.h>

#include "base/at.h"
#include "base/error.h"
#include "base/failpoint.h"

namespace veneer {
namespace {

class WriteBehindTest : public testing::Test {
 protected:
  ~WriteBehindTest() override { (void)failpoint::disarm(); }
  const UniqueFd dir_ = open_root("/var/tmp");
};

TEST_F(WriteBehindTest, SmallTreesAreLeftToTheSyncBeforeTheCommit) {
  failpoint::arm({.at = 1, .error_number = EIO});
  WriteBehind write_behind(dir_.get());
  write_behind.wrote(WriteBehind::kStepBytes - 1);
  write_behind.finish();
  EXPECT_EQ(failpoint::disarm(), 0u);
}

TEST_F(WriteBehindTest, AStepIsOneSync) {
  failpoint::arm({.at = 2, .error_number = EIO});
  WriteBehind write_behind(dir_.get());
  write_behind.wrote(WriteBehind::kStepBytes - 1);
  write_behind.wrote(1);
  write_behind.finish();
  EXPECT_EQ(failpoint::disarm(), 1u);
}

TEST_F(WriteBehindTest, AFailedSyncIsReportedOnce) {
  failpoint::arm({.at = 1, .error_number = EIO});
  WriteBehind write_behind(dir_.get());
  write_behind.wrote(WriteBehind::kStepBytes);
  try {
    write_behind.finish();
    FAIL() << "finish() did not throw";
  } catch (const SysError& error) {
    EXPECT_EQ(error.error_number(), EIO);
  }
}

}  // namespace
}  // namespace veneer
