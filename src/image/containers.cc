#include <utility>

#include "base/error.h"
#include "image/library.h"
#include "image/library_parts.h"
#include "image/lookup.h"
#include "image/random_names.h"
#include "image/select.h"
#include "store/local.h"

namespace veneer {

namespace {

// One that no container has, so far.
std::string choose_name(Meta::Transaction& transaction, std::string_view wanted) {
  if (!wanted.empty()) {
    if (transaction.maybe_container_by_name(wanted))
      fail(Code::already_exists, "a container is called {} already", wanted);
    return std::string(wanted);
  }
  std::string name = random_container_name();
  for (size_t digits = 2; transaction.maybe_container_by_name(name); ++digits)
    name = fmt::format("{}_{}", random_container_name(), random_container_id().substr(0, digits));
  return name;
}

std::string top_name(Meta::Transaction& transaction, const ImageRecord& image) {
  return image.top ? transaction.snapshot(*image.top).info.name : "";
}

}  // namespace

ContainerInfo Library::create(std::string_view image, std::string_view name) {
  if (!name.empty()) check_container_name(name);
  Meta::Transaction transaction = store_.meta().write();
  const ImageRecord record = find_image(transaction, image);
  ContainerRecord container{.id = random_container_id(),
                            .name = choose_name(transaction, name),
                            .image = record.config,
                            .snapshot = 0,
                            .created = now()};
  const std::string parent = top_name(transaction, record);
  NewSnapshot snapshot(store_, transaction,
                       {.space = kLocalSpace, .key = container.id, .parent = parent});
  container.snapshot = snapshot.id();
  transaction.add_container(container);
  ContainerInfo info = describe_container(store_, transaction, container);
  transaction.commit();
  snapshot.done();
  return info;
}

std::vector<ContainerInfo> Library::containers() {
  Meta::Transaction transaction = store_.meta().read();
  std::vector<ContainerInfo> containers;
  for (const ContainerRecord& record : transaction.list_containers())
    containers.push_back(describe_container(store_, transaction, record));
  return containers;
}

ContainerInfo Library::container(std::string_view reference) {
  Meta::Transaction transaction = store_.meta().read();
  return describe_container(store_, transaction, find_container(transaction, reference));
}

void Library::remove_container(std::string_view reference) {
  const ContainerRecord container = this->container(reference).record;
  (void)store_.unmount(kLocalSpace, container.id);
  Meta::Transaction transaction = store_.meta().write();
  if (!transaction.maybe_container(container.id)) return;  // someone else was faster
  transaction.remove_container(container.id);
  transaction.remove_snapshot(container.snapshot);
  OrphanGuard orphans(store_.open_mark());
  transaction.commit();
  store_.discard_snapshot(container.snapshot);
  orphans.done();
}

namespace {

// What a reference means where both are possible: containers go first.
struct Mountable {
  std::optional<ContainerRecord> container;
  std::optional<ImageRecord> image;
};

Mountable find_mountable(Meta::Transaction& transaction, std::string_view reference) {
  if (auto container = maybe_find_container(transaction, reference))
    return {.container = std::move(container), .image = {}};
  if (auto image = maybe_find_image(transaction, reference))
    return {.container = {}, .image = std::move(image)};
  std::vector<std::string> names = container_names(transaction);
  for (std::string& name : familiar_image_names(transaction)) names.push_back(std::move(name));
  fail(Code::not_found, "no container or image {}{}", shown(reference),
       did_you_mean(reference, names));
}

}  // namespace

std::string Library::mount(std::string_view reference) {
  {
    Meta::Transaction transaction = store_.meta().read();
    const Mountable found = find_mountable(transaction, reference);
    if (found.container) return store_.mount(kLocalSpace, found.container->id);
    const std::string key = view_key(*found.image);
    if (transaction.maybe_snapshot(kLocalSpace, key)) return store_.mount(kLocalSpace, key);
  }
  Meta::Transaction transaction = store_.meta().write();
  const ImageRecord image = find_image(transaction, reference);
  const std::string key = view_key(image);
  // Someone may have been faster.
  if (transaction.maybe_snapshot(kLocalSpace, key)) return store_.mount(kLocalSpace, key);
  const std::string parent = top_name(transaction, image);
  NewSnapshot view(store_, transaction,
                   {.kind = Kind::view, .space = kLocalSpace, .key = key, .parent = parent});
  std::string path = mount_snapshot(store_, view.id(), view.plan());
  transaction.commit();
  view.done();
  return path;
}

bool Library::unmount(std::string_view reference) {
  std::optional<SnapshotRecord> view;
  const Mountable found = [&] {
    Meta::Transaction transaction = store_.meta().read();
    Mountable mountable = find_mountable(transaction, reference);
    if (mountable.image) view = transaction.maybe_snapshot(kLocalSpace, view_key(*mountable.image));
    return mountable;
  }();
  if (found.container) return store_.unmount(kLocalSpace, found.container->id);
  if (!view) return false;
  const bool was_mounted = store_.unmount(kLocalSpace, view->info.name);
  snapshotter_->remove(view->info.name);
  return was_mounted;
}

}  // namespace veneer
