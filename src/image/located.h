// An image found in an archive, and the two ways to find one.
#pragma once

#include <string>
#include <vector>

#include "image/archive.h"
#include "image/documents.h"
#include "image/members.h"

namespace veneer {

struct LocatedImage {
  ImageManifest manifest;
  std::vector<std::string> layer_members;  // one for each layer
  Links layer_links = Links::refuse;
};

// Both choose by `options`, verify everything but the layers' contents, and throw what open_image()
// does. `members` holds oci-layout, or manifest.json respectively.
LocatedImage find_oci_image(const Members& members, const OpenImageOptions& options);
LocatedImage find_docker_image(const Members& members, const OpenImageOptions& options);

// Throws not_found if the config says another platform.
void check_platform(const ImageConfig& config, const Platform& wanted);
// Throws corrupt unless there are as many diff ids as layers.
void check_diff_ids(const ImageConfig& config, size_t layers);

}  // namespace veneer
