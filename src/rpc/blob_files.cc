#include "rpc/blob_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <utility>

#include "base/at.h"

namespace veneer {

std::unique_ptr<Source> maybe_open_blob(const std::string& content_dir, const Digest& digest) {
  const RelPath path = RelPath::clamp(fmt::format("{}/blobs/sha256/{}", content_dir, digest.hex()));
  auto file = maybe_open_at(open_root("/").get(), path, O_RDONLY);
  if (!file || !S_ISREG(stat_fd(file->get()).st_mode)) return nullptr;
  return std::make_unique<FileSource>(std::move(*file));
}

}  // namespace veneer
