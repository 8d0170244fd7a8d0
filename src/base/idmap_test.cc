#include "base/idmap.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace veneer {
namespace {

TEST(IdMap, BothWays) {
  const IdMap map = IdMap::parse("0:100000:1000,1000:5:1");
  EXPECT_EQ(map.to_host(0), 100000u);
  EXPECT_EQ(map.to_host(999), 100999u);
  EXPECT_EQ(map.to_host(1000), 5u);
  EXPECT_THROW(map.to_host(1001), Error);
  EXPECT_EQ(map.to_container(100999), 999u);
  EXPECT_EQ(map.to_container(5), 1000u);
  EXPECT_THROW(map.to_container(0), Error);
}

TEST(IdMap, TheEmptyMapIsTheIdentity) {
  const IdMap map;
  EXPECT_TRUE(map.is_identity());
  EXPECT_EQ(map.to_host(4294967294u), 4294967294u);
}

TEST(IdMap, Inside) {
  const IdMap map = IdMap::parse("0:100000:1000,2000:5:1").inside();
  EXPECT_EQ(map.to_host(999), 999u);
  EXPECT_EQ(map.to_container(2000), 2000u);
  EXPECT_THROW(map.to_container(1000), Error);
  EXPECT_TRUE(IdMap().inside().is_identity());
}

TEST(IdMap, TheRootOfTheHostHasTheHighestFreeId) {
  const auto root_in = [](const char* map) {
    return IdMap::parse(map).with_host_root().to_container(0);
  };
  EXPECT_EQ(root_in("0:100000:1000"), 4294967294u);
  EXPECT_EQ(root_in("0:100000:1000,4294967294:5:1"), 4294967293u);
  EXPECT_EQ(root_in("4294967290:5:3,4294967293:70:3"), 4294967289u);
  EXPECT_EQ(root_in("0:100000:1000,1000:0:10"), 1000u) << "it has one";
  EXPECT_EQ(IdMap::parse("0:100000:1000").with_host_root().to_container(100007), 7u);
  EXPECT_TRUE(IdMap().with_host_root().is_identity());
}

TEST(IdMap, BadRanges) {
  for (const char* text : {"", "0:1", "0:1:", "0:1:0", "0:4294967295:2", "0:1:1,", "0:1:5,3:90:1",
                           "0:1:5,9:3:1", "-1:0:1", "0:0:1x"})
    EXPECT_THROW(IdMap::parse(text), Error) << text;
}

}  // namespace
}  // namespace veneer
