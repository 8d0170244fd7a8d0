#include "image/random_names.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/limits.h"

namespace veneer {
namespace {

TEST(RandomNames, AreNamesOfContainers) {
  for (int i = 0; i < 1000; ++i) {
    const std::string name = random_container_name();
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), name.npos) << name;
    EXPECT_NO_THROW(check_container_name(name));
  }
}

TEST(RandomNames, IdsHave64Digits) {
  const std::string id = random_container_id();
  EXPECT_EQ(id.size(), 64U);
  EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), id.npos);
  EXPECT_NE(id, random_container_id());
}

TEST(RandomNames, OthersAreRefused) {
  for (const char* name : {"a", "A-1_b.c", "0"}) EXPECT_NO_THROW(check_container_name(name));
  for (const char* name : {"", "-a", "_a", ".a", "a/b", "a b", "a:b", "\xc3\xa4"})
    EXPECT_THROW(check_container_name(name), Error) << name;
  EXPECT_NO_THROW(check_container_name(std::string(limits::kIdBytes, 'a')));
  EXPECT_THROW(check_container_name(std::string(limits::kIdBytes + 1, 'a')), Error);
}

}  // namespace
}  // namespace veneer
