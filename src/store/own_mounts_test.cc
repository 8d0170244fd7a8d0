#include "store/own_mounts.h"

#include <gtest/gtest.h>

#include "mount/overlay.h"

namespace veneer {
namespace {

Mount overlay(std::vector<std::string> options) {
  return {.type = "overlay", .source = "overlay", .options = std::move(options)};
}

TEST(OwnMounts, ReadsWhatTheSnapshotterWrites) {
  const std::string odd = "/a:b,c\\d e";
  const auto paths = read_mount(to_mount({.lower = {odd + "/1", "/2", odd},
                                          .upper = odd + "/up",
                                          .work = odd + "/work",
                                          .options = {"index=off"}}));
  ASSERT_TRUE(paths);
  EXPECT_EQ(paths->upper, odd + "/up");
  EXPECT_EQ(paths->lower, (std::vector<std::string>{odd + "/1", "/2", odd}));
  EXPECT_EQ(paths->bind, "");
  const auto bind = read_mount({.type = "bind", .source = odd, .options = {"rw", "rbind"}});
  ASSERT_TRUE(bind);
  EXPECT_EQ(bind->bind, odd);
}

TEST(OwnMounts, AnUpperAloneIsEnough) {
  const auto paths = read_mount(overlay({"upperdir=/x/fs"}));
  ASSERT_TRUE(paths);
  EXPECT_EQ(paths->upper, "/x/fs");
  EXPECT_TRUE(paths->lower.empty());
}

TEST(OwnMounts, RefusesWhatItCannotRead) {
  EXPECT_FALSE(read_mount({.type = "ext4", .source = "/dev/vda", .options = {}}));
  EXPECT_FALSE(read_mount({.type = "bind", .source = "", .options = {}}));
  EXPECT_FALSE(read_mount({.type = "bind", .source = "/x", .options = {"rbind", "uid=1"}}));
  EXPECT_FALSE(read_mount(overlay({})));
  EXPECT_FALSE(read_mount(overlay({"index=off"})));
  EXPECT_FALSE(read_mount(overlay({"upperdir="})));
  EXPECT_FALSE(read_mount(overlay({"upperdir=/x\\"})));
  EXPECT_FALSE(read_mount(overlay({"lowerdir=/x\\"})));
  EXPECT_FALSE(read_mount(overlay({"upperdir=/x", "upperdir=/y"})));
  EXPECT_FALSE(read_mount(overlay({"lowerdir=/x", "lowerdir=/y"})));
}

}  // namespace
}  // namespace veneer
