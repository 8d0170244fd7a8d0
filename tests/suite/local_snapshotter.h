// A store on a scratch directory and its own snapshotter, for the tests of what is theirs.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "layer/settle.h"
#include "mount/mount.h"
#include "store/recover.h"
#include "store/store.h"
#include "tests/suite/snapshotter_suite.h"
#include "tests/support/code_of.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer::test {

inline constexpr std::string_view kSpace = "test";

inline StoreOptions options_in(const std::string& scratch, bool is_volatile = false) {
  return {
      .root = scratch + "/root", .run = scratch + "/run", .is_volatile = is_volatile, .form = {}};
}

// A store and its snapshotter as one.
struct Opened {
  explicit Opened(const std::string& scratch, bool is_volatile = false)
      : store(options_in(scratch, is_volatile)) {
    snapshotter = open_snapshotter(store, kSpace);
  }
  Store store;
  std::unique_ptr<Snapshotter> snapshotter;
};

class Local : public testing::Test {
 protected:
  Local() { reopen(); }

  void reopen() {
    opened_.reset();
    opened_ = std::make_unique<Opened>(scratch_.path());
  }
  Store& store() { return opened_->store; }
  Snapshotter& snapshots() { return *opened_->snapshotter; }

  // As after a reboot: no mounts, and an empty run directory.
  void reboot() {
    scratch_.unmount_all();
    opened_.reset();
    (void)remove_tree_at(scratch_.dir(), "run");
    reopen();
  }

  // A committed snapshot whose content is a layer, as an import makes it.
  VariantRecord add_layer(const std::string& name, const std::string& parent, LayerTar& tar,
                          Form form = Form::packed) {
    return add_tar(name, parent, tar.bytes(), form);
  }
  VariantRecord add_tar(const std::string& name, const std::string& parent,
                        const std::string& bytes, Form form, Kind kind = Kind::committed) {
    Meta::Transaction transaction = store().meta().write();
    SnapshotRecord snapshot;
    snapshot.space = kSpace;
    snapshot.info.name = name;
    snapshot.info.parent = parent;
    snapshot.info.kind = kind;
    snapshot.info.created = now();
    snapshot.info.updated = now();
    if (!parent.empty()) snapshot.parent = transaction.maybe_snapshot(kSpace, parent)->id;
    const VariantRecord variant = publish(transaction, snapshot.parent, bytes, form);
    snapshot.variant = variant;
    if (kind == Kind::committed) snapshot.usage = variant.usage;
    transaction.add_snapshot(snapshot);
    transaction.commit();
    return variant;
  }
  VariantRecord publish(Meta::Transaction& transaction, std::optional<int64_t> parent,
                        const std::string& bytes, Form form) {
    StagingDir staging(store().layout());
    MemorySource source(std::as_bytes(std::span(bytes)));
    StagedLayer staged = stage_layer(source, staging.fd(), {});
    const Store::OpenedView below = store().open_view(transaction, parent);
    const LowerView lower(below.view);
    const bool is_packed = form == Form::packed;
    const SettledLayer settled =
        settle_layer(staged, staging.fd(), &lower,
                     {.form = is_packed ? LayerForm::packed : LayerForm::directory});
    VariantRecord variant;
    variant.diff_id = staged.info.diff_id;
    variant.form = form;
    variant.name = is_packed ? settled.index_name : kLayerTreeName.c_str();
    variant.usage = {.size_bytes = staged.info.size_bytes, .inodes = 2};
    if (is_packed) variant.digest = settled.index_digest;
    if (const auto layer = transaction.maybe_layer(variant.diff_id))
      return *transaction.maybe_variant(layer->id, variant.name);
    variant.layer = transaction.add_layer({.id = 0,
                                           .diff_id = variant.diff_id,
                                           .tar_bytes = staged.info.size_bytes,
                                           .file_bytes = settled.file_bytes,
                                           .depends_on_lower = false});
    variant.id = transaction.add_variant(variant);
    const RelPath name = Layout::digest_name(variant.diff_id);
    discard_if_there(store().layout(), store().layout().layers(), name);
    staging.publish(store().layout().layers(), name);
    return variant;
  }

  ClientMount mount(const std::vector<Mount>& mounts) {
    return {mounts, fmt::format("{}/mount-{}", scratch_.path(), next_mount_++)};
  }
  std::map<std::string, std::string> tree(const std::string& name) {
    snapshots().view("looking", name, {});
    std::map<std::string, std::string> lines =
        describe_tree(mount(snapshots().mounts("looking")).dir());
    snapshots().remove("looking");
    return lines;
  }
  std::vector<std::string> names_in(int dir) { return list_dir(dir); }
  int64_t id_of(const std::string& key) {
    return store().meta().read().maybe_snapshot(kSpace, key).value().id;
  }
  // The directories that these snapshots have.
  std::vector<std::string> names_of(const std::vector<std::string>& keys) {
    std::vector<std::string> names;
    for (const std::string& key : keys) names.push_back(std::to_string(id_of(key)));
    return names;
  }
  bool is_mounted(const VariantRecord& variant) {
    return is_mount_point_at(open_root(store().lowers().directory()).get(),
                             RelPath::parse(std::to_string(variant.id)));
  }
  static void expect_success(const std::vector<pid_t>& children) {
    for (const pid_t child : children) {
      int status = 1;
      EXPECT_EQ(::waitpid(child, &status, 0), child);
      EXPECT_EQ(status, 0);
    }
  }
  std::vector<std::string> marks() {
    return list_dir(open_dir_at(store().layout().root(), "opened").get());
  }

  Scratch scratch_;
  std::unique_ptr<Opened> opened_;
  int next_mount_ = 0;
};

inline LayerTar base_layer() {
  LayerTar tar;
  tar.dir("./", {.mode = 0750, .uid = 3, .gid = 4}).dir("d").file("d/one", "1").file("f", "base");
  tar.file("program", "#!/bin/sh\nexit 7\n", {.mode = 0755});
  return tar;
}

inline LayerTar top_layer() {
  LayerTar tar;
  tar.dir("./", {.mode = 0711}).whiteout("d/one").file("f", "top").file("g", "new");
  return tar;
}

}  // namespace veneer::test
