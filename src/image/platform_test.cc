#include "image/platform.h"

#include <gtest/gtest.h>

#include "image/test_image.h"

namespace veneer {
namespace {

unsigned suits(std::string_view offered, std::string_view wanted) {
  return suitability(Platform::parse(offered), Platform::parse(wanted));
}

TEST(Platform, IsParsed) {
  EXPECT_EQ(Platform::parse("linux/amd64").str(), "linux/amd64");
  EXPECT_EQ(Platform::parse("linux/arm/v7").str(), "linux/arm/v7");
  EXPECT_EQ(Platform::parse("linux/x86_64").str(), "linux/amd64");
  EXPECT_EQ(Platform::parse("linux/aarch64").str(), "linux/arm64");
  EXPECT_EQ(Platform::parse("linux/armhf").str(), "linux/arm/v7");
  for (const char* text : {"", "/", "linux", "linux/", "/amd64", "linux/arm/", "linux/arm/v7/x"})
    test::expect_error(Code::invalid_argument, {"platform"}, [&] { Platform::parse(text); });
}

TEST(Platform, TheHostRunsItsOwnImages) {
  const Platform host = Platform::host();
  EXPECT_EQ(host.os, "linux");
  EXPECT_GT(suitability(host, host), 1u);
#ifdef __x86_64__
  EXPECT_EQ(host.str(), "linux/amd64");
#endif
}

TEST(Platform, SystemAndArchitectureMustBeEqual) {
  EXPECT_EQ(suits("linux/amd64", "linux/arm64"), 0u);
  EXPECT_EQ(suits("windows/amd64", "linux/amd64"), 0u);
  EXPECT_GT(suits("linux/s390x", "linux/s390x"), 1u);
  EXPECT_EQ(suitability({}, Platform::parse("linux/amd64")), 1u);
}

TEST(Platform, LowerLevelsRunAndHigherOnesArePreferred) {
  EXPECT_GT(suits("linux/arm/v7", "linux/arm/v7"), suits("linux/arm/v6", "linux/arm/v7"));
  EXPECT_GT(suits("linux/arm/v6", "linux/arm/v7"), 1u);
  EXPECT_EQ(suits("linux/arm/v7", "linux/arm/v6"), 0u);
  EXPECT_EQ(suits("linux/arm", "linux/arm/v7"), suits("linux/arm/v7", "linux/arm/v7"));
  EXPECT_EQ(suits("linux/arm64/v8", "linux/arm64"), suits("linux/arm64", "linux/arm64/v8"));
  EXPECT_EQ(suits("linux/arm64/v8.2", "linux/arm64/v8"), 0u);
  EXPECT_GT(suits("linux/arm64/v8.2", "linux/arm64/v9"), suits("linux/arm64", "linux/arm64/v9"));
  EXPECT_EQ(suits("linux/amd64/v3", "linux/amd64"), 0u);
  EXPECT_GT(suits("linux/amd64/v2", "linux/amd64/v3"), suits("linux/amd64", "linux/amd64/v3"));
}

TEST(Platform, OtherVariantsMustBeEqual) {
  EXPECT_GT(suits("linux/ppc64le/power9", "linux/ppc64le/power9"), 1u);
  EXPECT_EQ(suits("linux/ppc64le/power9", "linux/ppc64le"), 0u);
  EXPECT_EQ(suits("linux/arm64/fast", "linux/arm64"), 0u);
}

}  // namespace
}  // namespace veneer
