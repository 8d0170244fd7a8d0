// containerd's content store as files, read past containerd: "<directory>/blobs/sha256/<hex>".
#pragma once

#include <memory>
#include <string>

#include "base/digest.h"
#include "stream/stream.h"

namespace veneer {

// The blob in `content_dir`, containerd's "io.containerd.content.v1.content"; nothing if it is not
// there. containerd puts whole blobs there, whose digests it has verified.
std::unique_ptr<Source> maybe_open_blob(const std::string& content_dir, const Digest& digest);

}  // namespace veneer
