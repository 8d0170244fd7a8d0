#include "tests/crash/store_state.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "mount/mount.h"
#include "store/check.h"

namespace veneer::test {

namespace {

class Observer {
 public:
  explicit Observer(Store& store) : store_(store), transaction_(store.meta().read()) {}

  State look() {
    for (const ContainerRecord& container : transaction_.list_containers()) {
      aliases_[container.id] = "container " + container.name;
      state_["container"][container.name] = container.image.hex();
    }
    look_at_layers();
    for (const SnapshotRecord& snapshot : transaction_.list_snapshots("", 0, 1000))
      look_at(snapshot);
    for (const ImageRecord& image : transaction_.list_images())
      state_["image"][image.config.hex()] =
          fmt::format("{} {}", fmt::join(image.names, " "),
                      image.top ? transaction_.snapshot(*image.top).info.name : "no layers");
    for (const Digest& blob : transaction_.list_blobs())
      state_["blob"][blob.hex()] = fmt::format("{}", transaction_.maybe_blob(blob).value());
    return std::move(state_);
  }

  // Where something may be mounted.
  const std::set<std::string>& mount_points() const { return mount_points_; }

 private:
  void look_at_layers() {
    for (const LayerRecord& layer : transaction_.list_layers()) {
      std::string variants;
      for (const VariantRecord& variant : transaction_.list_variants(layer.id)) {
        variants += " " + variant.name;
        mount_points_.insert(fmt::format("{}/{}", store_.lowers().directory(), variant.id));
      }
      state_["layer"][layer.diff_id.hex()] = variants;
    }
  }

  void look_at(const SnapshotRecord& snapshot) {
    const auto alias = aliases_.find(snapshot.info.name);
    const std::string name = alias == aliases_.end() ? snapshot.info.name : alias->second;
    const std::string path = store_.layout().snapshot_path(snapshot.id);
    const bool is_mounted = is_mount_point_at(
        store_.layout().snapshots(), Layout::snapshot_name(snapshot.id) / kMergedName.c_str());
    if (is_mounted) mount_points_.insert(path + "/" + kMergedName.c_str());
    std::string labels;
    for (const auto& [key, value] : snapshot.info.labels) labels += key + "=" + value + " ";
    state_["snapshot"][snapshot.space + "/" + name] = fmt::format(
        "{} on {} content {} usage {} {}{}", to_string(snapshot.info.kind), snapshot.info.parent,
        snapshot.variant ? snapshot.variant->diff_id.hex() + "/" + snapshot.variant->name : "own",
        snapshot.usage ? snapshot.usage->inodes : 0, labels, is_mounted ? "mounted" : "");
    if (!snapshot.variant)
      state_["files of " + name] = describe_tree(store_.layout().open_upper(snapshot.id).get(),
                                                 {.times = false, .hard_links = false});
  }

  Store& store_;
  Meta::Transaction transaction_;
  State state_;
  std::map<std::string, std::string> aliases_;
  std::set<std::string> mount_points_;
};

}  // namespace

StoreOptions store_options(const Scratch& scratch, Form form, bool is_volatile) {
  return {.root = scratch.path() + "/root",
          .run = scratch.path() + "/run",
          .is_volatile = is_volatile,
          .form = form};
}

State observe_store(const Scratch& scratch, Form form, bool was_killed) {
  Store store(store_options(scratch, form));
  const Layout& layout = store.layout();
  const auto expect_nothing_staged = [&] {
    EXPECT_EQ(list_dir(layout.staging()), std::vector<std::string>());
    EXPECT_EQ(list_dir(layout.trash()), std::vector<std::string>());
  };
  if (was_killed) expect_nothing_staged();
  empty_trash(layout, DeletedByOthers::awaited);
  expect_nothing_staged();
  EXPECT_EQ(list_dir(open_dir_at(layout.root(), "opened").get()).size(), 1U) << "not our mark";
  Observer observer(store);
  State state = observer.look();
  for (const std::string& mount : scratch.mounts())
    EXPECT_TRUE(observer.mount_points().contains(mount)) << mount << " is mounted";
  for (const Damage& damage : check_store(store, kAlone).damages)
    state["damage"][damage.what + " " + damage.path] = damage.why;
  return state;
}

void reboot(const Scratch& scratch) {
  scratch.unmount_all();
  (void)remove_tree_at(scratch.dir(), "run");
}

void sweep_store(Form form, const SweptStore& swept) {
  sweep({.prepare = swept.prepare,
         .operate = swept.operate,
         .observe = [form](const Scratch& scratch,
                           bool was_killed) { return observe_store(scratch, form, was_killed); },
         .clean_up = reboot});
}

}  // namespace veneer::test
