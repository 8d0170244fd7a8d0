// The JSON documents of images: what they must say, as values.
//
// Sources: image-spec descriptor.md, manifest.md, image-index.md, image-layout.md, config.md;
// Docker's image manifest version 2, schema 2; moby image/spec/v1.2.md (manifest.json of docker
// save). All functions take the document's bytes and throw corrupt for what is not so, unsupported
// for media types and versions that are not known, resource_exhausted beyond a limit; their callers
// say which document it is.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "image/platform.h"

namespace veneer {

struct Descriptor {
  std::string media_type;
  Digest digest;
  uint64_t size = 0;
  std::optional<Platform> platform;
  std::vector<std::string> names;  // from the annotations of containerd and of the image-spec
};

struct OciManifest {
  Descriptor config;
  std::vector<Descriptor> layers;
};

struct ImageConfig {
  Platform platform;  // with empty parts where the document is silent
  std::vector<Digest> diff_ids;
  std::string created;  // RFC 3339; empty where the document is silent
};

// One image of a docker-archive.
struct DockerImage {
  std::string config;
  std::vector<std::string> names;
  std::vector<std::string> layers;
};

inline constexpr std::string_view kOciIndexType = "application/vnd.oci.image.index.v1+json";

bool is_index_type(std::string_view media_type);

void check_oci_layout(std::string_view text);
// The manifests and indexes of an index, without those that are no images: attestations and media
// types that are neither. `media_type` is what the descriptor says that the document is.
std::vector<Descriptor> parse_index(std::string_view text, std::string_view media_type);
// Without a `media_type`, what the document says of itself is not compared.
OciManifest parse_manifest(std::string_view text, std::optional<std::string_view> media_type);
ImageConfig parse_config(std::string_view text);
std::vector<DockerImage> parse_docker_images(std::string_view text);

}  // namespace veneer
