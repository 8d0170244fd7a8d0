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
  std::string media_type;
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
  // Which image of several: a name ("name:tag", ref name), needed if there is more than one.
  std::optional<std::string> name;
  // "os/arch[/variant]" for multi-platform indexes; the host's by default.
  std::optional<std::string> platform;
};

// Tells the kind by what is there: a directory with oci-layout; a tar (itself perhaps compressed)
// with manifest.json or with oci-layout and index.json. A tar is indexed in one pass without unpacking it
// (a compressed one, or a pipe, is first written to an unnamed temporary file in `scratch_dir`).
// Verifies config and manifests against their digests, sizes and counts; refuses documents that are both
// manifest and index (CVE-2021-41190), JSON beyond the limits, layers beyond the limit, absolute or
// climbing blob paths, links to other members that are not layers.
// Errors: not_found (file, named image, platform: with what there is), corrupt, unsupported.
std::unique_ptr<ImageArchive> open_image(const std::string& path, const OpenImageOptions& options,
                                         const std::string& scratch_dir);

}  // namespace veneer
