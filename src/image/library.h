// Images and containers of a store: what the command line does, as a library.
//
// An image is its config (a blob; its digest is the image id), names, and a chain of committed
// snapshots named by ChainID. A container is a name and an active snapshot over an image's topmost.
// Both live in the space "local".
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/archive.h"
#include "store/import.h"
#include "store/store.h"

namespace veneer {

inline constexpr std::string_view kLocalSpace = "local";

struct ImageInfo {
  ImageRecord record;
  std::vector<std::string> names;  // familiar, sorted
  std::string platform;            // "linux/amd64"
  std::optional<Time> created;     // as the config says
  uint64_t size_bytes = 0;         // regular files of all layers
  size_t layers = 0;
  size_t containers = 0;
  std::string mounted_on;  // "" if it is not
};

// One layer of an image, lowest first.
struct ImageLayerInfo {
  Digest diff_id;
  Digest chain_id;
  Form form = Form::packed;
  uint64_t tar_bytes = 0;
  uint64_t file_bytes = 0;
};

struct LoadOptions {
  std::optional<std::string> name;  // in place of the archive's
  ImportProgress* progress = nullptr;
};
struct LoadedImage {
  ImageInfo image;
  std::vector<Import::Layer> layers;
  bool existed = false;  // the image with all its layers was there
};

struct SaveOptions {
  enum class Format { oci, docker } format = Format::oci;
  enum class Compression { none, gzip, zstd } compression = Compression::none;
};

struct CommitImageOptions {
  std::string name;                  // of the new image; "" for none
  std::vector<std::string> changes;  // Dockerfile instructions: CMD, ENTRYPOINT, ENV, EXPOSE,
                                     // LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR
  std::string message;
  std::string author;
  std::optional<int64_t> epoch = {};  // SOURCE_DATE_EPOCH
};

struct ContainerInfo {
  ContainerRecord record;
  std::string image_name;  // familiar, or the short id
  std::string mounted_on;  // "" if it is not
};

class Library {
 public:
  explicit Library(Store& store);
  ~Library();

  // All layers that are not there are imported in parallel; one transaction at the end. Of what is
  // known only metadata changes.
  LoadedImage load(const ImageArchive& archive, const LoadOptions& options);
  // Writes a tar: an OCI layout, or a docker-archive. The config's bytes and the uncompressed
  // layers are exactly those that were loaded; compression is deterministic. An image that is named
  // by a name has that one in the archive, one by its id all that it has.
  void save(std::string_view image, const SaveOptions& options, Sink& to);

  std::vector<ImageInfo> images();  // newest first
  // By name as Docker reads it ("a" is docker.io/library/a:latest), full id, or a prefix of the id
  // (4 digits or more) that only one has. not_found, with the names that are near;
  // invalid_argument for an ambiguous prefix.
  ImageInfo image(std::string_view reference);
  std::vector<ImageLayerInfo> layers(const ImageInfo& image);
  std::string config(const ImageInfo& image);  // the JSON bytes
  // A name goes; the image too if it was the last one, or was named by its id. failed_precondition
  // if containers use the image (named in the error).
  struct Removed {
    std::vector<std::string> names;
    std::optional<Digest> image;
  };
  Removed remove_image(std::string_view reference);

  // A random name (adjective_noun) if `name` is empty. already_exists.
  ContainerInfo create(std::string_view image, std::string_view name);
  std::vector<ContainerInfo> containers();  // newest first
  // By name, id or a prefix of it, as image().
  ContainerInfo container(std::string_view reference);
  // Unmounts it first, and that stays if the rest fails.
  void remove_container(std::string_view reference);

  // Of a container, or, read-only, of an image (a view of its own, which umount removes). The path.
  std::string mount(std::string_view reference);
  // False if it was not mounted. A crash may leave an image's view, as a reboot does: it is used by
  // the next mount, and goes with the next unmount, or the image.
  bool unmount(std::string_view reference);

  std::vector<Change> changes(std::string_view container);
  void write_diff(std::string_view container, Sink& to);
  ImageInfo commit(std::string_view container, const CommitImageOptions& options);

 private:
  Store& store_;
  std::unique_ptr<Snapshotter> snapshotter_;
};

}  // namespace veneer
