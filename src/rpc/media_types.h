// The media types of layers (OCI image-spec layer.md; Docker's image manifest version 2, schema 2).
#pragma once

#include <optional>
#include <string_view>

#include "stream/compress.h"

namespace veneer {

inline constexpr std::string_view kLayerTar = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kLayerTarGzip = "application/vnd.oci.image.layer.v1.tar+gzip";

// The compression that the media type of a layer tells of. Nothing for what is no such layer, or
// takes more than that to read (encryption).
std::optional<Compression> maybe_layer_compression(std::string_view media_type);

}  // namespace veneer
