#include "image/archive.h"

#include <fcntl.h>

#include "base/error.h"
#include "base/limits.h"
#include "image/context.h"
#include "image/located.h"
#include "image/select.h"
#include "image/tar_members.h"
#include "stream/compress.h"
#include "stream/prefetch.h"

namespace veneer {

namespace {

class OpenedImage : public ImageArchive {
 public:
  OpenedImage(std::unique_ptr<Members> members, LocatedImage image)
      : members_(std::move(members)), image_(std::move(image)) {}
  const ImageManifest& manifest() const override { return image_.manifest; }
  std::unique_ptr<Source> open_layer(size_t index) const override {
    return members_->open(image_.layer_members.at(index), image_.layer_links);
  }

 private:
  std::unique_ptr<Members> members_;
  LocatedImage image_;
};

UniqueFd open_path(const std::string& path) {
  if (path == "-") return dup_fd(0);
  try {
    return open_root(path, O_RDONLY);
  } catch (const SysError& error) {
    if (error.error_number() == ENOENT) fail(Code::not_found, "no such file or directory");
    throw;
  }
}

bool is_plain_file(int fd) {
  if (!S_ISREG(stat_fd(fd).st_mode)) return false;
  std::byte start[6];
  const size_t size = read_some_at(fd, start, 0);
  return sniff_compression(Bytes(start, size)) == Compression::none;
}

// Decompresses what cannot be read in place to a file that has no name, so that nothing is left
// behind whatever happens.
TarMembers spool(int fd, const std::string& scratch_dir) {
  const UniqueFd dir = open_root(scratch_dir);
  UniqueFd file = open_at(dir.get(), ".", O_TMPFILE | O_RDWR, 0600);
  FdSource stored(fd);
  DecompressingSource plain(stored);
  LimitedSource limited(plain, limits::kLayerBytes, "image");
  PrefetchSource ahead(limited);
  return TarMembers::of_stream(ahead, std::move(file));
}

std::unique_ptr<Members> open_members(const std::string& path, const std::string& scratch_dir) {
  UniqueFd fd = open_path(path);
  if (S_ISDIR(stat_fd(fd.get()).st_mode)) return std::make_unique<DirectoryMembers>(std::move(fd));
  return std::make_unique<TarMembers>(is_plain_file(fd.get()) ? TarMembers::of_file(std::move(fd))
                                                              : spool(fd.get(), scratch_dir));
}

}  // namespace

std::unique_ptr<ImageArchive> open_image(const std::string& path, const OpenImageOptions& options,
                                         const std::string& scratch_dir) {
  return with_context(
      path == "-" ? "standard input" : path, [&]() -> std::unique_ptr<ImageArchive> {
        std::unique_ptr<Members> members = open_members(path, scratch_dir);
        LocatedImage image;
        // Docker writes both since version 25. The layout says more: digests and sizes of the
        // blobs.
        if (members->maybe_open("oci-layout") && members->maybe_open("index.json"))
          image = find_oci_image(*members, options);
        else if (members->maybe_open("manifest.json"))
          image = find_docker_image(*members, options);
        else
          fail(Code::unsupported, "neither an OCI image layout nor a docker-archive");
        return std::make_unique<OpenedImage>(std::move(members), std::move(image));
      });
}

}  // namespace veneer
