#include "image/documents.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "image/test_image.h"

namespace veneer {
namespace {

using test::expect_error;

constexpr std::string_view kManifestType = "application/vnd.oci.image.manifest.v1+json";
const std::string kConfigType = "application/vnd.oci.image.config.v1+json";
const std::string kLayerType = "application/vnd.oci.image.layer.v1.tar+gzip";
const std::string kDigest = "sha256:" + std::string(64, 'a');

std::string descriptor(std::string_view type, std::string_view more = "") {
  return fmt::format(R"({{"mediaType":"{}","digest":"{}","size":7{}}})", type, kDigest, more);
}

std::string index_of(std::string_view manifests, std::string_view more = "") {
  return fmt::format(R"({{"schemaVersion":2,"manifests":[{}]{}}})", manifests, more);
}

std::string manifest_of(std::string_view layers, std::string_view more = "") {
  return fmt::format(R"({{"schemaVersion":2,"config":{},"layers":[{}]{}}})",
                     descriptor(kConfigType), layers, more);
}

std::string config_of(std::string_view diff_ids, std::string_view type = "layers") {
  return fmt::format(
      R"({{"os":"linux","architecture":"amd64","rootfs":{{"type":"{}","diff_ids":{}}}}})", type,
      diff_ids);
}

std::string listed(std::string_view element, size_t count) {
  std::string all;
  for (size_t i = 0; i < count; ++i) all.append(i > 0 ? "," : "").append(element);
  return all;
}

OciManifest manifest(std::string_view text) {
  return parse_manifest(text, kManifestType);
}
std::vector<Descriptor> index(std::string_view text) {
  return parse_index(text, kOciIndexType);
}

TEST(Documents, TheLayoutVersionIsKnown) {
  EXPECT_NO_THROW(check_oci_layout(R"({"imageLayoutVersion":"1.0.0"})"));
  expect_error(Code::unsupported, {"2.0.0"},
               [] { check_oci_layout(R"({"imageLayoutVersion":"2.0.0"})"); });
  expect_error(Code::corrupt, {"imageLayoutVersion"}, [] { check_oci_layout("{}"); });
}

TEST(Documents, AnIndexListsManifestsAndIndexes) {
  const auto found = index(index_of(
      descriptor(kManifestType, R"(,"platform":{"os":"linux","architecture":"arm","variant":"v7"})"
                                R"(,"annotations":{"org.opencontainers.image.ref.name":"v1"})") +
      "," +
      descriptor("application/vnd.docker.distribution.manifest.list.v2+json",
                 R"(,"annotations":{"org.opencontainers.image.ref.name":"v1",)"
                 R"("io.containerd.image.name":"docker.io/library/a:v1"})")));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].digest.str(), kDigest);
  EXPECT_EQ(found[0].size, 7u);
  EXPECT_EQ(found[0].platform->str(), "linux/arm/v7");
  EXPECT_EQ(found[0].names, std::vector<std::string>{"v1"});
  EXPECT_FALSE(is_index_type(found[0].media_type));
  EXPECT_TRUE(is_index_type(found[1].media_type));
  EXPECT_FALSE(found[1].platform);
  EXPECT_EQ(found[1].names, std::vector<std::string>{"docker.io/library/a:v1"});
}

TEST(Documents, WhatIsNoImageIsPassedOver) {
  EXPECT_TRUE(index(index_of("")).empty());
  EXPECT_TRUE(
      index(index_of(
                descriptor("application/x-artifact") + "," +
                descriptor(kManifestType,
                           R"(,"platform":{"os":"unknown","architecture":"unknown"})") +
                "," +
                descriptor(kManifestType, R"(,"annotations":{"vnd.docker.reference.type":"x"})")))
          .empty());
}

TEST(Documents, DescriptorsAreStrict) {
  const auto with = [](std::string_view json) { return [=] { index(index_of(json)); }; };
  expect_error(Code::corrupt, {"manifests[0]", "mediaType"}, with("{}"));
  expect_error(Code::corrupt, {"manifests[0]", "object"}, with("7"));
  expect_error(Code::corrupt, {"manifests[1]", "\"size\" is a string"},
               with(descriptor(kManifestType) + R"(,{"mediaType":"a","digest":")" + kDigest +
                    R"(","size":"7"})"));
  expect_error(Code::corrupt, {"is not a digest"},
               with(R"({"mediaType":"a","digest":"sha256:../../x","size":7})"));
  expect_error(Code::corrupt, {"is not a digest"},
               with(R"({"mediaType":"a","digest":"a\nb","size":7})"));
  expect_error(Code::unsupported, {"sha512"},
               with(R"({"mediaType":"a","digest":"sha512:aa","size":7})"));
  expect_error(Code::corrupt, {"platform"}, with(descriptor(kManifestType, R"(,"platform":"x")")));
}

TEST(Documents, AManifestHasConfigAndLayers) {
  const OciManifest found = manifest(
      manifest_of(descriptor(kLayerType) + "," +
                  descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")));
  EXPECT_EQ(found.config.media_type, kConfigType);
  ASSERT_EQ(found.layers.size(), 2u);
  EXPECT_EQ(found.layers[0].media_type, kLayerType);
  EXPECT_TRUE(manifest(manifest_of("")).layers.empty());
  expect_error(Code::corrupt, {"config", "missing"},
               [] { manifest(R"({"schemaVersion":2,"layers":[]})"); });
  expect_error(Code::corrupt, {"layers", "not an array"}, [] {
    manifest(R"({"schemaVersion":2,"layers":"x","config":)" + descriptor(kConfigType) + "}");
  });
}

TEST(Documents, MediaTypesMustBeKnown) {
  expect_error(Code::unsupported, {"layers[0]", "x+encrypted"},
               [] { manifest(manifest_of(descriptor("x+encrypted"))); });
  expect_error(Code::unsupported, {"not an image", "helm"}, [] {
    manifest(R"({"schemaVersion":2,"layers":[],"config":)" + descriptor("helm") + "}");
  });
}

// CVE-2021-41190.
TEST(Documents, NoDocumentIsIndexAndManifest) {
  const std::string manifests = R"(,"manifests":[])";
  expect_error(Code::corrupt, {"index"}, [&] { manifest(manifest_of("", manifests)); });
  expect_error(Code::corrupt, {"manifest"}, [] { index(index_of("", R"(,"layers":[])")); });
  expect_error(Code::corrupt, {"manifest"}, [] { index(index_of("", R"(,"config":{})")); });
  expect_error(Code::corrupt, {"index"}, [] { manifest(index_of("")); });
  expect_error(Code::corrupt, {"manifest"}, [] { index(manifest_of("")); });
  const std::string says_index = fmt::format(R"(,"mediaType":"{}")", kOciIndexType);
  const std::string says_manifest = fmt::format(R"(,"mediaType":"{}")", kManifestType);
  EXPECT_NO_THROW(index(index_of("", says_index)));
  EXPECT_NO_THROW(manifest(manifest_of("", says_manifest)));
  expect_error(Code::corrupt, {"mediaType"}, [&] { manifest(manifest_of("", says_index)); });
  expect_error(Code::corrupt, {"mediaType"}, [&] { index(index_of("", says_manifest)); });
}

TEST(Documents, OnlySchemaTwoIsKnown) {
  expect_error(Code::unsupported, {"version 1"}, [] { index(R"({"schemaVersion":1})"); });
  expect_error(Code::corrupt, {"schemaVersion"}, [] { index("{}"); });
}

TEST(Documents, AConfigHasDiffIds) {
  const ImageConfig config = parse_config(config_of("[\"" + kDigest + "\"]"));
  EXPECT_EQ(config.platform.str(), "linux/amd64");
  EXPECT_EQ(config.diff_ids, std::vector{Digest::parse(kDigest)});
  EXPECT_TRUE(parse_config(config_of("null")).diff_ids.empty());
  expect_error(Code::unsupported, {"base"}, [] { parse_config(config_of("[]", "base")); });
  expect_error(Code::corrupt, {"rootfs"}, [] { parse_config("{}"); });
  expect_error(Code::corrupt, {"digest"}, [] { parse_config(config_of(R"(["x"])")); });
  expect_error(Code::corrupt, {"diff_ids"}, [] { parse_config(config_of("[7]")); });
}

TEST(Documents, DockerListsImages) {
  const auto images = parse_docker_images(
      R"([{"Config":"c.json","RepoTags":["a:1","a:2"],"Layers":["l/layer.tar"],"Parent":"x"},)"
      R"({"Config":"d.json","RepoTags":null,"Layers":null}])");
  ASSERT_EQ(images.size(), 2u);
  EXPECT_EQ(images[0].config, "c.json");
  EXPECT_EQ(images[0].names, (std::vector<std::string>{"a:1", "a:2"}));
  EXPECT_EQ(images[0].layers, std::vector<std::string>{"l/layer.tar"});
  EXPECT_TRUE(images[1].names.empty());
  expect_error(Code::corrupt, {"array"}, [] { parse_docker_images("{}"); });
  expect_error(Code::corrupt, {"[0]", "Layers"},
               [] { parse_docker_images(R"([{"Config":"c","Layers":"x"}])"); });
}

TEST(Documents, LayersAreLimited) {
  const size_t limit = limits::kImageLayers;
  const auto layers = [](size_t n) { return manifest_of(listed(descriptor(kLayerType), n)); };
  EXPECT_EQ(manifest(layers(limit)).layers.size(), limit);
  expect_error(Code::resource_exhausted, {"501 layers"}, [&] { manifest(layers(limit + 1)); });

  const auto config = [](size_t n) {
    return config_of("[" + listed("\"" + kDigest + "\"", n) + "]");
  };
  EXPECT_EQ(parse_config(config(limit)).diff_ids.size(), limit);
  expect_error(Code::resource_exhausted, {"501"}, [&] { parse_config(config(limit + 1)); });

  const auto docker = [](size_t n) {
    return R"([{"Config":"c","Layers":[)" + listed("\"l\"", n) + "]}]";
  };
  EXPECT_EQ(parse_docker_images(docker(limit))[0].layers.size(), limit);
  expect_error(Code::resource_exhausted, {"501"}, [&] { parse_docker_images(docker(limit + 1)); });
}

TEST(Documents, LayerSizesAreLimited) {
  const auto layer = [](uint64_t size) {
    return fmt::format(R"({{"mediaType":"{}","digest":"{}","size":{}}})", kLayerType, kDigest,
                       size);
  };
  EXPECT_NO_THROW(manifest(manifest_of(layer(limits::kLayerBytes))));
  expect_error(Code::resource_exhausted, {"layers[0]"},
               [&] { manifest(manifest_of(layer(limits::kLayerBytes + 1))); });
}

}  // namespace
}  // namespace veneer
