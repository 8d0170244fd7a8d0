#include "image/names.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "image/test_image.h"

namespace veneer {
namespace {

const std::string kHex(64, 'a');
const std::string kDigest = "@sha256:" + kHex;

struct Case {
  std::string text;
  std::string full;
  std::string familiar;
};

TEST(ImageName, IsNormalised) {
  const Case cases[] = {
      {"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
      {"busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"},
      {"library/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
      {"docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
      {"index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
      {"index.docker.io/u/x", "docker.io/u/x:latest", "u/x:latest"},
      {"user/app:v1", "docker.io/user/app:v1", "user/app:v1"},
      {"library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
      {"a/b/c/d", "docker.io/a/b/c/d:latest", "a/b/c/d:latest"},
      {"localhost/x", "localhost/x:latest", "localhost/x:latest"},
      {"localhost", "docker.io/library/localhost:latest", "localhost:latest"},
      {"localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"},
      {"example.com/x:y", "example.com/x:y", "example.com/x:y"},
      {"example:5000", "docker.io/library/example:5000", "example:5000"},
      {"Upper/x", "Upper/x:latest", "Upper/x:latest"},
      {"127.0.0.1:80/x", "127.0.0.1:80/x:latest", "127.0.0.1:80/x:latest"},
      {"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
      {"[fe80::1]/x", "[fe80::1]/x:latest", "[fe80::1]/x:latest"},
      {"a.b-c__d---e_f", "docker.io/library/a.b-c__d---e_f:latest", "a.b-c__d---e_f:latest"},
      {"x:_A.b-C", "docker.io/library/x:_A.b-C", "x:_A.b-C"},
      {"x" + kDigest, "docker.io/library/x" + kDigest, "x" + kDigest},
      {"x:1" + kDigest, "docker.io/library/x:1" + kDigest, "x:1" + kDigest},
      {kHex + ":1", "docker.io/library/" + kHex + ":1", kHex + ":1"},
  };
  for (const Case& c : cases) {
    const ImageName name = ImageName::parse(c.text);
    EXPECT_EQ(name.str(), c.full);
    EXPECT_EQ(name.familiar(), c.familiar);
    EXPECT_EQ(ImageName::parse(name.str()), name) << c.text;
    EXPECT_EQ(ImageName::parse(name.familiar()), name) << c.text;
  }
}

TEST(ImageName, HasParts) {
  const ImageName name = ImageName::parse("example.com:80/a/b:t" + kDigest);
  EXPECT_EQ(name.domain(), "example.com:80");
  EXPECT_EQ(name.path(), "a/b");
  EXPECT_EQ(name.tag(), "t");
  EXPECT_EQ(name.digest(), Digest::parse("sha256:" + kHex));
  EXPECT_EQ(ImageName::parse("x" + kDigest).tag(), "");
}

TEST(ImageName, WhatTheGrammarRefuses) {
  const std::string texts[] = {
      "",
      ":",
      "/",
      "@",
      "x:",
      "x@",
      ":x",
      "/x",
      "x/",
      "a//b",
      "x:a:b",
      "x: ",
      "x y",
      "x\n",
      "é",
      "Busybox",
      "a/Upper",
      "example.com/Upper",
      kHex,
      "-x",
      "x-",
      "_x",
      "x_",
      ".x",
      "x.",
      "a..b",
      "a.-b",
      "a___b",
      "a/_b",
      "x:-t",
      "x:.t",
      "x:t/u",
      "x:t@",
      "x@sha256:" + kHex.substr(1),
      "x@sha256:" + kHex + "a",
      "x@sha256:" + std::string(64, 'A'),
      "x@sha512:" + kHex + kHex,
      "x@" + kHex,
      "x" + kDigest + ":t",
      "x" + kDigest + kDigest,
      "-a.com/x",
      "a-.com/x",
      "a..com/x",
      ".com/x",
      "a.com:/x",
      "a.com:x/x",
      "a.com:1:2/x",
      "[::1/x",
      "[]/x",
      "[::g]/x",
      "[::1]x:1/x",
      "::1/x",
      "../x",
      "a.com/../x",
      "https://a.com/x",
      std::string("x\0y", 3),
  };
  for (const std::string& text : texts) {
    test::expect_error(Code::invalid_argument, {"is not an image name"},
                       [&] { ImageName::parse(text); });
    EXPECT_FALSE(ImageName::maybe_parse(text)) << text;
  }
}

TEST(ImageName, LengthsAreLimited) {
  const std::string path(limits::kImagePathBytes, 'a');
  EXPECT_TRUE(ImageName::maybe_parse("example.com/" + path));
  EXPECT_FALSE(ImageName::maybe_parse("example.com/" + path + "a"));
  const std::string tag(limits::kImageTagBytes, 'a');
  EXPECT_TRUE(ImageName::maybe_parse("x:" + tag));
  EXPECT_FALSE(ImageName::maybe_parse("x:" + tag + "a"));
}

}  // namespace
}  // namespace veneer
