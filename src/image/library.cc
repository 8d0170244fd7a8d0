#include "image/library.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "image/config_blob.h"
#include "image/library_parts.h"
#include "store/recover.h"

namespace veneer {

Library::Library(Store& store)
    : store_(store), snapshotter_(open_snapshotter(store, kLocalSpace)) {}

Library::~Library() = default;

std::vector<ImageInfo> Library::images() {
  Meta::Transaction transaction = store_.meta().read();
  std::vector<ImageInfo> images;
  for (const ImageRecord& record : transaction.list_images()) {
    try {
      images.push_back(describe_image(store_, transaction, record));
    } catch (const Error& error) {
      if (error.code() != Code::not_found) throw;  // removed since the transaction began
    }
  }
  return images;
}

ImageInfo Library::image(std::string_view reference) {
  Meta::Transaction transaction = store_.meta().read();
  return describe_image(store_, transaction, find_image(transaction, reference));
}

std::vector<ImageLayerInfo> Library::layers(const ImageInfo& image) {
  Meta::Transaction transaction = store_.meta().read();
  std::vector<ImageLayerInfo> layers;
  if (!image.record.top) return layers;
  for (const SnapshotRecord& snapshot : transaction.chain(*image.record.top)) {
    const auto layer =
        snapshot.variant ? transaction.maybe_layer(snapshot.variant->diff_id) : std::nullopt;
    if (!layer) fail(Code::corrupt, "snapshot {} has no layer", snapshot.info.name);
    layers.push_back({.diff_id = layer->diff_id,
                      .chain_id = Digest::parse(snapshot.info.name),
                      .form = snapshot.variant->form,
                      .tar_bytes = layer->tar_bytes,
                      .file_bytes = layer->file_bytes});
  }
  std::ranges::reverse(layers);
  return layers;
}

std::string Library::config(const ImageInfo& image) {
  return read_config(store_, image.record.config);
}

namespace {

constexpr size_t kShownUsers = 5;

void check_unused(const Store& store, Meta::Transaction& transaction, const ImageRecord& image) {
  std::vector<std::string> users;
  for (const ContainerRecord& container : transaction.list_containers())
    if (container.image == image.config) users.push_back(container.name);
  const size_t others = users.size() - std::min(users.size(), kShownUsers);
  users.resize(users.size() - others);
  if (others > 0) users.push_back(fmt::format("{} others", others));
  if (!users.empty())
    fail(Code::failed_precondition, "{} {} it; remove {} first", fmt::join(users, ", "),
         users.size() == 1 ? "uses" : "use", users.size() == 1 ? "that" : "those");
  const auto view = transaction.maybe_snapshot(kLocalSpace, view_key(image));
  if (view && !mounted_path(store, view->id).empty())
    fail(Code::failed_precondition, "it is mounted on {}; unmount it first",
         mounted_path(store, view->id));
}

// Snapshots over the image that nobody uses: of a mount that a reboot undid, and of a container
// whose maker died before it was one. Returns the ids of what is gone.
std::vector<int64_t> remove_leftovers(Meta::Transaction& transaction, const ImageRecord& image) {
  std::vector<int64_t> removed;
  transaction.for_each_snapshot(kLocalSpace, [&](const SnapshotRecord& snapshot) {
    const bool is_used =
        snapshot.info.kind == Kind::committed || snapshot.parent != image.top ||
        transaction.maybe_container(snapshot.info.name) ||
        (snapshot.info.kind == Kind::view && snapshot.info.name != view_key(image));
    if (!is_used) removed.push_back(snapshot.id);
  });
  for (const int64_t id : removed) transaction.remove_snapshot(id);
  return removed;
}

void remove_chain(Meta::Transaction& transaction, std::optional<int64_t> top) {
  while (top && !transaction.has_children(*top) && !transaction.is_image_top(*top)) {
    const SnapshotRecord snapshot = transaction.snapshot(*top);
    transaction.remove_snapshot(*top);
    top = snapshot.parent;
  }
}

}  // namespace

Library::Removed Library::remove_image(std::string_view reference) {
  Meta::Transaction transaction = store_.meta().write();
  const ImageRecord image = find_image(transaction, reference);
  Removed removed;
  const auto name = ImageName::maybe_parse(reference);
  const bool is_named = name && std::ranges::find(image.names, name->str()) != image.names.end();
  if (is_named && image.names.size() > 1) {
    transaction.remove_image_name(name->str());
    transaction.commit();
    removed.names.push_back(name->familiar());
    return removed;
  }
  check_unused(store_, transaction, image);
  for (const std::string& text : image.names)
    removed.names.push_back(ImageName::parse(text).familiar());
  removed.image = image.config;
  transaction.remove_image(image.id);
  const std::vector<int64_t> leftovers = remove_leftovers(transaction, image);
  remove_chain(transaction, image.top);
  transaction.remove_blob(image.config);
  OrphanGuard orphans(store_.open_mark());
  store_.collect(std::move(transaction));  // commits
  for (const int64_t leftover : leftovers) store_.discard_snapshot(leftover);
  discard_config(store_, image.config);
  orphans.done();
  return removed;
}

}  // namespace veneer
