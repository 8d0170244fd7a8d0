#include "layer/whiteout.h"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include "base/error.h"

namespace veneer {
namespace {

TEST(Whiteout, OrdinaryNamesSayNothing) {
  for (const std::string_view name :
       {"a", "", ".", "wh.a", ".wh", ".whx", "a.wh.b", ".w.h.", " .wh.a"})
    EXPECT_EQ(parse_tar_name(name).kind, TarNameKind::none) << name;
}

TEST(Whiteout, NamesItsTarget) {
  for (const std::string_view target : {"a", "a.b", "...", ".a", "wh.", ".wh", ".whx", " ", "-"}) {
    const std::string name = whiteout_name(target);
    const TarName parsed = parse_tar_name(name);
    EXPECT_EQ(parsed.kind, TarNameKind::whiteout) << name;
    EXPECT_EQ(parsed.target, target);
  }
}

TEST(Whiteout, OpaqueIsOneExactName) {
  EXPECT_EQ(parse_tar_name(".wh..wh..opq").kind, TarNameKind::opaque);
  EXPECT_EQ(parse_tar_name(".wh..wh..opq2").kind, TarNameKind::aufs_metadata);
  EXPECT_EQ(parse_tar_name(".wh..wh..op").kind, TarNameKind::aufs_metadata);
  EXPECT_EQ(parse_tar_name(".wh..opq").kind, TarNameKind::whiteout);
}

TEST(Whiteout, AufsMetadata) {
  for (const std::string_view name : {".wh..wh.", ".wh..wh.aufs", ".wh..wh.orph", ".wh..wh.plnk"})
    EXPECT_EQ(parse_tar_name(name).kind, TarNameKind::aufs_metadata) << name;
}

TEST(Whiteout, RefusesWhiteoutsOfNoName) {
  for (const std::string_view name : {".wh.", ".wh..", ".wh..."}) try {
      parse_tar_name(name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::corrupt) << name;
    }
}

TEST(Whiteout, ReservedNames) {
  EXPECT_TRUE(is_reserved_name(".wh."));
  EXPECT_TRUE(is_reserved_name(".wh.a"));
  EXPECT_FALSE(is_reserved_name(".wh"));
  EXPECT_FALSE(is_reserved_name("a.wh."));
}

TEST(Whiteout, DeviceZeroOnly) {
  struct stat st{};
  st.st_mode = S_IFCHR;
  EXPECT_TRUE(is_whiteout_device(st));
  st.st_rdev = makedev(0, 1);
  EXPECT_FALSE(is_whiteout_device(st));
  st.st_rdev = makedev(0, 0);
  st.st_mode = S_IFBLK;
  EXPECT_FALSE(is_whiteout_device(st));
}

}  // namespace
}  // namespace veneer
