#include "mount/mount.h"

#include <gtest/gtest.h>

#include "base/at.h"

namespace veneer {
namespace {

TEST(FileSystemName, KnownAndUnknown) {
  EXPECT_EQ(file_system_name(magic::kExt4), "ext4");
  EXPECT_EQ(file_system_name(0x58465342), "xfs");
  EXPECT_EQ(file_system_name(0x9123683e), "btrfs");
  EXPECT_EQ(file_system_name(0x61756673), "aufs");
  EXPECT_EQ(file_system_name(0x2fc12fc1), "zfs");
  EXPECT_EQ(file_system_name(0x794c7630), "overlay");
  EXPECT_EQ(file_system_name(0xff534d42), "cifs");
  EXPECT_EQ(file_system_name(0xabcdef), "unknown (0xabcdef)");
}

TEST(FileSystemMagic, OfProcAndSys) {
  const UniqueFd root = open_root("/");
  EXPECT_EQ(file_system_name(file_system_magic_at(root.get(), "proc")), "proc");
  EXPECT_EQ(file_system_magic_at(root.get(), "proc/self"), magic::kProc);
}

TEST(MountPoint, RootOfAMountOnly) {
  const UniqueFd root = open_root("/");
  EXPECT_TRUE(is_mount_point_at(root.get(), "proc"));
  EXPECT_FALSE(is_mount_point_at(root.get(), "proc/sys/kernel"));
  EXPECT_FALSE(is_mount_point_at(root.get(), "proc/no-such-file"));
  EXPECT_FALSE(is_mount_point_at(root.get(), "proc/version/below-a-file"));
}

}  // namespace
}  // namespace veneer
