// What the parts of the library share.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "image/library.h"
#include "image/names.h"

namespace veneer {

// By name, id or a prefix of it; nothing if there is none. invalid_argument for an ambiguous
// prefix.
std::optional<ImageRecord> maybe_find_image(Meta::Transaction& transaction,
                                            std::string_view reference);
std::optional<ContainerRecord> maybe_find_container(Meta::Transaction& transaction,
                                                    std::string_view reference);
// The same, or not_found with the names that are near.
ImageRecord find_image(Meta::Transaction& transaction, std::string_view reference);
ContainerRecord find_container(Meta::Transaction& transaction, std::string_view reference);

std::vector<std::string> familiar_image_names(Meta::Transaction& transaction);
std::vector<std::string> container_names(Meta::Transaction& transaction);

ImageInfo describe_image(Store& store, Meta::Transaction& transaction, const ImageRecord& record);
ContainerInfo describe_container(Store& store, Meta::Transaction& transaction,
                                 const ContainerRecord& record);

// As a name shows it, "busybox:latest"; 12 digits of the id for an image without one.
std::string shown_image(const ImageRecord& record);

// The key of the view that an image is mounted by.
std::string view_key(const ImageRecord& record);

// The path that a snapshot is mounted on, "" if it is not.
std::string mounted_path(const Store& store, int64_t snapshot);

// Of an image's chain, what the store has: that need not be imported.
struct KnownChain {
  std::optional<int64_t> top;
  std::vector<Import::Layer> layers;
};
// As many of the layers, from the lowest up, as there are snapshots for.
KnownChain find_chain(Meta::Transaction& transaction, const std::vector<Digest>& diff_ids);
// All layers of a committed snapshot.
KnownChain read_chain(Meta::Transaction& transaction, std::optional<int64_t> top);

// Adds an image with the layers `known` and then those of `import`, which is staged, and gives it
// the names: one transaction. Nothing if what is assumed to be there is not any more; it takes
// another try then.
struct NewImage {
  const KnownChain& known;
  Import& import;
  const std::string& config;
  const std::vector<ImageName>& names;
};
std::optional<LoadedImage> maybe_add_image(Store& store, const NewImage& image);

}  // namespace veneer
