// Images as files: docker-archive tars (docker save), OCI image layouts as directories or tars.
//
// Sources: image-spec image-layout.md, manifest.md, image-index.md, config.md, descriptor.md;
// moby image/spec/v1.2.md ("Combined Image JSON + Filesystem Changeset Format").
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.h"
#include "stream/stream.h"

namespace veneer {

struct ImageLayer {
  Digest diff_id;
  // Of the blob as it lies in the archive, where the archive says so (OCI); docker-archives do not.
  std::optional<Digest> blob_digest;
  uint64_t blob_size = 0;
  std::string media_type;  // empty where the archive does not say
};

struct ImageManifest {
  std::vector<std::string> names;  // "name:tag" as the archive has them; may be empty
  Digest config_digest;            // what Docker calls the image id
  std::string config;              // the JSON bytes, verified against config_digest
  std::vector<ImageLayer> layers;  // lowest first; as many as the config's diff_ids
};

// An open image file. One is used by one thread at a time; sources of different layers may be read
// by different threads at once.
class ImageArchive {
 public:
  virtual ~ImageArchive() = default;
  virtual const ImageManifest& manifest() const = 0;
  // The bytes of layer `index` as they lie in the archive (compressed or not), limited to its
  // blob_size. Not verified: the reader hashes. The archive must outlive the source.
  virtual std::unique_ptr<Source> open_layer(size_t index) const = 0;
};

struct OpenImageOptions {
  // Which image of several, needed if there is more than one: a name as the archive has it, one
  // that Docker takes for the same ("a" for docker.io/library/a:latest), the digest of the manifest
  // in an OCI layout, or the config's path in a docker-archive. not_found if nothing is called so.
  std::optional<std::string> name;
  // "os/arch[/variant]" for multi-platform indexes; the host's by default. If it is given, a sole
  // image must be for it too; else that is taken for whatever platform it is.
  std::optional<std::string> platform;
};

// Tells the kind by what is there: an OCI layout (oci-layout and index.json; it goes first, as it
// has sizes and digests) or a docker-archive (manifest.json), as a directory or as a tar, itself
// perhaps compressed; "-" is standard input. A tar is indexed in one pass without unpacking it; a
// compressed one, or a pipe, is first written to an unnamed temporary file in `scratch_dir`.
// Verifies config and manifests against their digests, sizes and counts, and that all layers are
// there with their sizes. Refuses documents that are both manifest and index (CVE-2021-41190), JSON
// beyond the limits, layers beyond the limit, absolute and climbing paths, and links (but those
// that docker-archives have for layers, one step inside the archive). Errors begin with `path` and
// name the member: not_found (file, named image, platform: with what there is), invalid_argument
// (several images and no name), corrupt, unsupported, resource_exhausted.
std::unique_ptr<ImageArchive> open_image(const std::string& path, const OpenImageOptions& options,
                                         const std::string& scratch_dir);

}  // namespace veneer
