#include "base/digest.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace veneer {
namespace {

// FIPS 180-2, appendix B.1.
constexpr std::string_view kAbc =
    "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(Digest, KnownValue) {
  EXPECT_EQ(Sha256::of("abc").str(), kAbc);
}

TEST(Digest, InPieces) {
  Sha256 sha;
  sha.update(std::as_bytes(std::span(std::string_view("a"))));
  sha.update({});
  sha.update(std::as_bytes(std::span(std::string_view("bc"))));
  EXPECT_EQ(sha.finish().str(), kAbc);
  EXPECT_EQ(sha.finish(), Sha256::of(""));
}

TEST(Digest, ParseIsStrict) {
  EXPECT_EQ(Digest::parse(kAbc), Sha256::of("abc"));
  std::string upper(kAbc);
  upper[8] = 'A';
  EXPECT_THROW(Digest::parse(upper), Error);
  EXPECT_THROW(Digest::parse(kAbc.substr(0, 70)), Error);
  EXPECT_THROW(Digest::parse(std::string(kAbc) + "0"), Error);
  EXPECT_THROW(Digest::parse("ba78"), Error);
  try {
    Digest::parse("sha512:00");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::unsupported);
  }
}

TEST(Digest, ChainId) {
  const Digest a = Sha256::of("a");
  const Digest b = Sha256::of("b");
  EXPECT_EQ(chain_id(std::nullopt, a), a);
  EXPECT_EQ(chain_id(a, b), Sha256::of(a.str() + " " + b.str()));
}

}  // namespace
}  // namespace veneer
