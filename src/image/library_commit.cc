#include <algorithm>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "image/config_blob.h"
#include "image/documents.h"
#include "image/instructions.h"
#include "image/json.h"
#include "image/library.h"
#include "image/library_parts.h"
#include "image/timestamp.h"

namespace veneer {

namespace {

// What a container shows, and what its image does, read from their directories.
class ContainerViews {
 public:
  ContainerViews(Store& store, Meta::Transaction& transaction, const ContainerRecord& container) {
    const SnapshotRecord snapshot = transaction.snapshot(container.snapshot);
    parent_ = snapshot.parent;
    below_ = store.open_view(transaction, parent_);
    const UniqueFd directory =
        open_dir_at(store.layout().snapshots(), Layout::snapshot_name(snapshot.id));
    upper_ = open_dir_at(directory.get(), kUpperName);
  }

  std::optional<int64_t> parent() const { return parent_; }
  View now() const {
    View view{.layers = {upper_.get()}, .marks = below_.view.marks};
    for (const int layer : below_.view.layers) view.layers.push_back(layer);
    return view;
  }
  std::optional<View> before() const {
    return below_.view.layers.empty() ? std::nullopt : std::optional(below_.view);
  }

 private:
  std::optional<int64_t> parent_;
  Store::OpenedView below_;
  UniqueFd upper_;
};

Time clamp_time(Time time, std::optional<int64_t> epoch) {
  return epoch ? std::min(time, Time(std::chrono::seconds(*epoch))) : time;
}

// The config of an image with one layer more.
std::string extend_config(const std::string& base, const Digest& diff_id,
                          const CommitImageOptions& options, Time created) {
  JsonTree config = JsonTree::parse(apply_instructions(base, options.changes));
  const std::string time = format_timestamp(created);
  config.set({"created"}, time);
  if (!options.author.empty()) config.set({"author"}, options.author);
  config.append({"rootfs", "diff_ids"}, diff_id.str());
  JsonTree history;
  history.set({"created"}, time);
  if (!options.author.empty()) history.set({"author"}, options.author);
  history.set({"created_by"}, "veneer commit");
  if (!options.message.empty()) history.set({"comment"}, options.message);
  config.append({"history"}, std::move(history));
  return config.text();
}

}  // namespace

std::vector<Change> Library::changes(std::string_view reference) {
  const ContainerViews views = [&] {
    Meta::Transaction transaction = store_.meta().read();
    return ContainerViews(store_, transaction, find_container(transaction, reference));
  }();
  return list_changes(views.now(), views.before());
}

void Library::write_diff(std::string_view reference, Sink& to) {
  store_.write_layer(container(reference).record.snapshot, to);
}

ImageInfo Library::commit(std::string_view reference, const CommitImageOptions& options) {
  std::vector<ImageName> names;
  if (!options.name.empty()) names.push_back(ImageName::parse(options.name));
  ContainerRecord container;
  KnownChain known;
  // The container keeps its image, and so all of this, in the store.
  const ContainerViews views = [&] {
    Meta::Transaction transaction = store_.meta().read();
    container = find_container(transaction, reference);
    ContainerViews opened(store_, transaction, container);
    known = read_chain(transaction, opened.parent());
    return opened;
  }();
  const std::string base = read_config(store_, container.image);
  const Time created = clamp_time(now(), options.epoch);
  (void)extend_config(base, {}, options, created);  // what is wrong with it shows before the work
  std::vector<LayerBlob> blobs(1);
  blobs.front().write = [&](Sink& to) {
    veneer::write_diff(views.now(), views.before(), {.id_maps = {}, .epoch = options.epoch}, to);
  };
  Import import(store_, known.top, std::move(blobs));
  import.stage();
  const std::string config = extend_config(base, import.layers().front().diff_id, options, created);
  const NewImage image{.known = known, .import = import, .config = config, .names = names};
  const auto added = maybe_add_image(store_, image);
  if (!added) fail(Code::not_found, "the container {} has been removed", container.name);
  return added->image;
}

}  // namespace veneer
