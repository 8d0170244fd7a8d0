#include "rpc/media_types.h"

#include <gtest/gtest.h>

#include <string>

namespace veneer {
namespace {

TEST(MediaTypes, KnowsTheLayersOfBothKinds) {
  const std::string oci = "application/vnd.oci.image.layer.v1.tar";
  const std::string docker = "application/vnd.docker.image.rootfs.diff.tar";
  EXPECT_EQ(maybe_layer_compression(oci), Compression::none);
  EXPECT_EQ(maybe_layer_compression(oci + "+gzip"), Compression::gzip);
  EXPECT_EQ(maybe_layer_compression(oci + "+zstd"), Compression::zstd);
  EXPECT_EQ(maybe_layer_compression("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
            Compression::gzip);
  EXPECT_EQ(maybe_layer_compression(docker), Compression::none);
  EXPECT_EQ(maybe_layer_compression(docker + ".gzip"), Compression::gzip);
  EXPECT_EQ(maybe_layer_compression(docker + ".zstd"), Compression::zstd);
  EXPECT_EQ(maybe_layer_compression("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            Compression::gzip);
}

TEST(MediaTypes, KnowsNothingElse) {
  for (const char* const other :
       {"", "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/vnd.oci.image.layer.v1.tar+encrypted",
        "application/vnd.oci.image.layer.v1.tar.gzip", "application/vnd.oci.image.layer.v1.tar+",
        "application/vnd.oci.image.layer.v1.tarball", "application/vnd.oci.image.layer.v1.erofs",
        "application/vnd.docker.image.rootfs.diff.tar+gzip",
        "application/vnd.oci.image.config.v1+json", "Application/vnd.oci.image.layer.v1.tar"})
    EXPECT_EQ(maybe_layer_compression(other), std::nullopt) << other;
}

}  // namespace
}  // namespace veneer
