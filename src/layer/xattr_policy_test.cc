#include "layer/xattr_policy.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace veneer {
namespace {

using std::string_literals::operator""s;

const IdMaps kIdentity;

IdMaps shifted() {
  return {IdMap::parse("0:100000:65536"), IdMap::parse("0:200000:65536")};
}

TEST(XattrPolicy, KeepsWhatLayersCarry) {
  for (const std::string_view name :
       {"security.capability", "security.ima", "system.posix_acl_access",
        "system.posix_acl_default", "user.a", "user.overlayed", "user.overlay"}) {
    EXPECT_EQ(xattr_name_to_tar(name), name);
    EXPECT_EQ(xattr_name_to_store(name), name);
    EXPECT_TRUE(is_layer_xattr(name)) << name;
    EXPECT_FALSE(overlay_key(name)) << name;
  }
}

TEST(XattrPolicy, LeavesOutTheHosts) {
  for (const std::string_view name :
       {"security.selinux", "security.apparmor", "system.nfs4_acl", "trusted.a", "trusted.overlay",
        "trusted.md5sum", "security.capabilityx", "", "user", "btrfs.compression"}) {
    EXPECT_FALSE(xattr_name_to_tar(name)) << name;
    EXPECT_FALSE(xattr_name_to_store(name)) << name;
    EXPECT_FALSE(is_layer_xattr(name)) << name;
  }
}

TEST(XattrPolicy, EscapesOverlayNames) {
  for (const std::string space : {"trusted", "user"}) {
    const std::string plain = space + ".overlay.opaque";
    const std::string escaped = space + ".overlay.overlay.opaque";
    EXPECT_EQ(xattr_name_to_store(plain), escaped);
    EXPECT_EQ(xattr_name_to_tar(escaped), plain);
    EXPECT_EQ(xattr_name_to_store(escaped), space + ".overlay.overlay.overlay.opaque");
    EXPECT_FALSE(xattr_name_to_tar(plain));
    EXPECT_FALSE(is_layer_xattr(plain));
    EXPECT_TRUE(is_layer_xattr(escaped));
    EXPECT_EQ(overlay_key(plain), "opaque");
    EXPECT_FALSE(overlay_key(escaped));
  }
}

// Version 2, one user entry (tag 2, id 100007), one group entry (tag 8, id 200009), the owner's.
const std::string kHostAcl =
    "\2\0\0\0"
    "\1\0\6\0\377\377\377\377"
    "\2\0\6\0\247\206\1\0"
    "\10\0\4\0\111\15\3\0"s;
const std::string kContainerAcl =
    "\2\0\0\0"
    "\1\0\6\0\377\377\377\377"
    "\2\0\6\0\7\0\0\0"
    "\10\0\4\0\11\0\0\0"s;

TEST(XattrPolicy, MapsAclIds) {
  const std::string name = "system.posix_acl_access";
  EXPECT_EQ(xattr_value_to_tar(name, kHostAcl, shifted()), kContainerAcl);
  EXPECT_EQ(xattr_value_to_store(name, kContainerAcl, shifted()), kHostAcl);
  EXPECT_EQ(xattr_value_to_tar(name, kHostAcl, kIdentity), kHostAcl);
  EXPECT_THROW(xattr_value_to_tar(name, kContainerAcl, shifted()), Error);
  EXPECT_EQ(xattr_value_to_tar("user.x", kHostAcl, shifted()), kHostAcl);
}

TEST(XattrPolicy, PassesOnAclsThatAreNone) {
  for (const std::string& value : {""s, "\2\0\0"s, "\3\0\0\0\2\0\6\0\247\206\1\0"s,
                                   "\2\0\0\0\2\0\6\0\247\206\1"s, "\2\0\0\0"s})
    EXPECT_EQ(xattr_value_to_tar("system.posix_acl_default", value, shifted()), value);
}

// CAP_NET_RAW, permitted and effective.
const std::string kCapability2 = "\1\0\0\2\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0"s;
const std::string kCapability3 = "\1\0\0\3\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0\240\206\1\0"s;

TEST(XattrPolicy, CapabilitiesBelongToTheNamespace) {
  const std::string name = "security.capability";
  EXPECT_EQ(xattr_value_to_tar(name, kCapability3, shifted()), kCapability2);
  EXPECT_EQ(xattr_value_to_store(name, kCapability2, shifted()), kCapability3);
  EXPECT_EQ(xattr_value_to_tar(name, kCapability3, kIdentity), kCapability3);
  EXPECT_EQ(xattr_value_to_store(name, kCapability2, kIdentity), kCapability2);
  std::string of_another = kCapability3;
  of_another[20] = 1;
  EXPECT_EQ(xattr_value_to_tar(name, of_another, shifted()), of_another);
  EXPECT_EQ(xattr_value_to_tar(name, "short", shifted()), "short");
}

}  // namespace
}  // namespace veneer
