#include "rpc/media_types.h"

namespace veneer {

namespace {

// Those that may not be pushed everywhere ("nondistributable", "foreign") are layers like others.
constexpr std::string_view kTars[] = {
    kLayerTar,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
};

}  // namespace

std::optional<Compression> maybe_layer_compression(std::string_view media_type) {
  for (const std::string_view tar : kTars) {
    if (!media_type.starts_with(tar)) continue;
    const std::string_view suffix = media_type.substr(tar.size());
    // OCI's have "+gzip", Docker's ".gzip".
    const char separator = tar.contains(".oci.") ? '+' : '.';
    if (suffix.empty()) return Compression::none;
    if (suffix.front() != separator) return std::nullopt;
    if (suffix.substr(1) == "gzip") return Compression::gzip;
    if (suffix.substr(1) == "zstd") return Compression::zstd;
    return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace veneer
