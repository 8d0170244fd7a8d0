#include "image/documents.h"

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"
#include "image/context.h"
#include "image/json.h"
#include "image/select.h"

namespace veneer {

namespace {

constexpr std::string_view kIndexTypes[] = {
    kOciIndexType,
    "application/vnd.docker.distribution.manifest.list.v2+json",
};
constexpr std::string_view kManifestTypes[] = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
};
constexpr std::string_view kConfigTypes[] = {
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
};
// How a layer is compressed is told by its bytes; these only say that it is a layer.
constexpr std::string_view kLayerTypes[] = {
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.zstd",
};

template <size_t N>
bool is_one_of(const std::string_view (&types)[N], std::string_view type) {
  return std::ranges::find(types, type) != std::end(types);
}

void check_layer_count(size_t count) {
  if (count > limits::kImageLayers)
    fail(Code::resource_exhausted, "{} layers, and at most {} are allowed", count,
         limits::kImageLayers);
}

// A digest that is no digest is the document's fault here, not the caller's.
Digest digest_of(std::string_view text) {
  try {
    return Digest::parse(text);
  } catch (const Error& error) {
    if (error.code() != Code::invalid_argument) throw;
    fail(Code::corrupt, "{} is not a digest", shown(text));
  }
}

std::vector<std::string> names_of(const Json& annotations) {
  std::vector<std::string> names;
  for (const char* key : {"io.containerd.image.name", "org.opencontainers.image.ref.name"})
    if (auto name = annotations.maybe_string(key); name && names.empty())
      names.push_back(std::move(*name));
  return names;
}

Descriptor descriptor_of(const Json& json) {
  Descriptor descriptor{.media_type = json.string("mediaType"),
                        .digest = digest_of(json.string("digest")),
                        .size = json.number("size"),
                        .platform = {},
                        .names = {}};
  if (const Json* platform = json.maybe_object("platform"))
    descriptor.platform = Platform{.os = platform->string("os"),
                                   .architecture = platform->string("architecture"),
                                   .variant = platform->maybe_string("variant").value_or("")};
  if (const Json* annotations = json.maybe_object("annotations"))
    descriptor.names = names_of(*annotations);
  return descriptor;
}

// BuildKit stores provenance beside the images of an index, in both ways of saying so.
bool is_attestation(const Json& json, const Descriptor& descriptor) {
  if (descriptor.platform && descriptor.platform->os == "unknown" &&
      descriptor.platform->architecture == "unknown")
    return true;
  const Json* annotations = json.maybe_object("annotations");
  return annotations != nullptr && annotations->has("vnd.docker.reference.type");
}

template <typename Use>
void for_each_indexed(const Json& document, std::string_view key, Use use) {
  size_t index = 0;
  for (const Json& json : document.array(key))
    with_context(fmt::format("{}[{}]", key, index++), [&] { use(json); });
}

// What manifests and indexes have in common. A document that could be read as either is refused:
// two programs would see two images under one digest (CVE-2021-41190).
void check_document(const Json& document, std::optional<std::string_view> media_type,
                    bool is_index) {
  const auto said = document.maybe_string("mediaType");
  if (said && media_type && *said != *media_type)
    fail(Code::corrupt, "\"mediaType\" is {}, but it was referred to as {}", shown(*said),
         *media_type);
  if (const uint64_t version = document.number("schemaVersion"); version != 2)
    fail(Code::unsupported, "schema version {} (only 2 is known)", version);
  if (is_index ? document.has("layers") || document.has("config") : document.has("manifests"))
    fail(Code::corrupt, "referred to as {}, but it holds what {} does",
         is_index ? "an index" : "a manifest", is_index ? "a manifest" : "an index");
}

}  // namespace

bool is_index_type(std::string_view media_type) {
  return is_one_of(kIndexTypes, media_type);
}

void check_oci_layout(std::string_view text) {
  const std::string version = Json::parse(text).string("imageLayoutVersion");
  if (version != "1.0.0")
    fail(Code::unsupported, "image layout version {} (only 1.0.0 is known)", shown(version));
}

std::vector<Descriptor> parse_index(std::string_view text, std::string_view media_type) {
  const Json document = Json::parse(text);
  check_document(document, media_type, true);
  std::vector<Descriptor> descriptors;
  for_each_indexed(document, "manifests", [&](const Json& json) {
    Descriptor descriptor = descriptor_of(json);
    const bool is_image =
        is_index_type(descriptor.media_type) || is_one_of(kManifestTypes, descriptor.media_type);
    if (is_image && !is_attestation(json, descriptor)) descriptors.push_back(std::move(descriptor));
  });
  return descriptors;
}

OciManifest parse_manifest(std::string_view text, std::optional<std::string_view> media_type) {
  const Json document = Json::parse(text);
  check_document(document, media_type, false);
  OciManifest manifest{
      .config = with_context("config", [&] { return descriptor_of(document.object("config")); }),
      .layers = {}};
  if (!is_one_of(kConfigTypes, manifest.config.media_type))
    fail(Code::unsupported, "not an image: its config is {}", shown(manifest.config.media_type));
  check_layer_count(document.array("layers").size());
  for_each_indexed(document, "layers", [&](const Json& json) {
    Descriptor layer = descriptor_of(json);
    if (!is_one_of(kLayerTypes, layer.media_type))
      fail(Code::unsupported, "layer media type {}", shown(layer.media_type));
    if (layer.size > limits::kLayerBytes)
      fail(Code::resource_exhausted, "a layer of {} bytes", layer.size);
    manifest.layers.push_back(std::move(layer));
  });
  return manifest;
}

ImageConfig parse_config(std::string_view text) {
  const Json document = Json::parse(text);
  ImageConfig config;
  config.platform = {.os = document.maybe_string("os").value_or(""),
                     .architecture = document.maybe_string("architecture").value_or(""),
                     .variant = document.maybe_string("variant").value_or("")};
  config.created = document.maybe_string("created").value_or("");
  const Json& rootfs = document.object("rootfs");
  if (const std::string& type = rootfs.string("type"); type != "layers")
    fail(Code::unsupported, "rootfs of type {} (only layers is known)", shown(type));
  const std::vector<std::string> diff_ids = rootfs.strings("diff_ids");
  check_layer_count(diff_ids.size());
  for (const std::string& diff_id : diff_ids) config.diff_ids.push_back(digest_of(diff_id));
  return config;
}

std::vector<DockerImage> parse_docker_images(std::string_view text) {
  const Json document = Json::parse(text);
  std::vector<DockerImage> images;
  for (const Json& json : document.elements()) {
    with_context(fmt::format("[{}]", images.size()), [&] {
      DockerImage image{.config = json.string("Config"),
                        .names = json.strings("RepoTags"),
                        .layers = json.strings("Layers")};
      check_layer_count(image.layers.size());
      images.push_back(std::move(image));
    });
  }
  return images;
}

}  // namespace veneer
