#include "image/lookup.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace veneer {
namespace {

TEST(Lookup, PrefixesHaveFourToSixtyFourDigits) {
  EXPECT_FALSE(is_id_prefix("abc"));
  EXPECT_TRUE(is_id_prefix("abcd"));
  EXPECT_FALSE(is_id_prefix("abcg"));
  EXPECT_FALSE(is_id_prefix("ABCD"));
  EXPECT_TRUE(is_id_prefix(std::string(64, 'a')));
  EXPECT_FALSE(is_id_prefix(std::string(65, 'a')));
}

TEST(Lookup, PrefixesMustBeOfOne) {
  const std::vector<std::string> ids{"abcd1", "abcd2", "abce1"};
  EXPECT_EQ(maybe_id("abce", ids), "abce1");
  EXPECT_EQ(maybe_id("abcd2", ids), "abcd2");
  EXPECT_EQ(maybe_id("abcf", ids), std::nullopt);
  EXPECT_THROW((void)maybe_id("abcd", ids), Error);
}

TEST(Lookup, NearNamesAreTold) {
  const std::vector<std::string> names{"busybox:latest", "alpine:3.19", "quay.io/org/tool:v1",
                                       "brave_otter"};
  EXPECT_EQ(did_you_mean("busybx", names), "; did you mean busybox:latest?");
  EXPECT_EQ(did_you_mean("busbyox", names), "; did you mean busybox:latest?");
  EXPECT_EQ(did_you_mean("busybox:lates", names), "; did you mean busybox:latest?");
  EXPECT_EQ(did_you_mean("alpine", names), "; did you mean alpine:3.19?");
  EXPECT_EQ(did_you_mean("tool", names), "; did you mean quay.io/org/tool:v1?");
  EXPECT_EQ(did_you_mean("otter", names), "; did you mean brave_otter?");
  EXPECT_EQ(did_you_mean("debian", names), "");
  EXPECT_EQ(did_you_mean("", names), "");
}

TEST(Lookup, TheNearestThreeAreToldOnce) {
  EXPECT_EQ(did_you_mean("abcdef", {"abcdxx", "abcdex", "abcdef1", "abcdef2", "abcdef1"}),
            "; did you mean abcdef1, abcdef2 or abcdex?");
  EXPECT_EQ(did_you_mean("abcdef", {"abcdex", "abcdey"}), "; did you mean abcdex or abcdey?");
}

}  // namespace
}  // namespace veneer
