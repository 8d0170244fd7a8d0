#include "base/lock.h"

#include <gtest/gtest.h>

#include "base/at.h"
#include "base/error.h"

namespace veneer {
namespace {

TEST(Lock, IsTheDescriptions) {
  UniqueFd first = open_root(".");
  const UniqueFd second = open_root(".");
  lock_fd(first.get());
  EXPECT_FALSE(try_lock_fd(second.get()));
  unlock_fd(first.get());
  EXPECT_TRUE(try_lock_fd(second.get()));
  unlock_fd(second.get());
  lock_fd(first.get());
  first = UniqueFd();
  EXPECT_TRUE(try_lock_fd(second.get()));
}

TEST(Lock, SharedOnesKeepOnlyExclusiveOnesOut) {
  const UniqueFd first = open_root(".");
  const UniqueFd second = open_root(".");
  const UniqueFd third = open_root(".");
  lock_fd(first.get(), Lock::shared);
  lock_fd(second.get(), Lock::shared);
  EXPECT_FALSE(try_lock_fd(third.get()));
}

TEST(Lock, NeedsADescriptorThatIsOpen) {
  EXPECT_THROW(lock_fd(-1), Error);
  EXPECT_THROW((void)try_lock_fd(-1), Error);
}

}  // namespace
}  // namespace veneer
