// Every operation of the store, swept (tests/crash/sweep.h), with packed layers and with trees.
#include <gtest/gtest.h>

#include "base/error.h"
#include "layer/settle.h"
#include "store/import.h"
#include "store/recover.h"
#include "store/repair.h"
#include "tests/crash/store_state.h"
#include "tests/support/layer_tar.h"

namespace veneer {
namespace {

using test::LayerTar;
using test::Scratch;
using Operation = std::function<void(Store&)>;

constexpr std::string_view kSpace = "test";

std::string base_tar() {
  return LayerTar().dir("app", {.mode = 0700}).file("app/old", "old").file("gone", "g").bytes();
}
// Depends on what is below: it does not say what app is.
std::string implying_tar() {
  return LayerTar().file("app/new", "new").whiteout("gone").bytes();
}
std::string top_tar() {
  return LayerTar().file("top", std::string(100'000, 't')).bytes();
}

LayerBlob blob_of(const std::string& tar) {
  LayerBlob blob;
  blob.diff_id = Sha256::of(tar);
  blob.open = [&tar] { return std::make_unique<MemorySource>(std::as_bytes(std::span(tar))); };
  return blob;
}

void import_chain(Store& store, const std::vector<std::string>& tars) {
  std::vector<LayerBlob> blobs;
  for (const std::string& tar : tars) blobs.push_back(blob_of(tar));
  Import import(store, std::nullopt, std::move(blobs));
  import.stage();
  OrphanGuard orphans(store.open_mark());
  Meta::Transaction transaction = store.meta().write();
  ASSERT_TRUE(import.publish(transaction));
  (void)add_chain(transaction, kSpace, import.layers());
  transaction.commit();
  orphans.done();
}

std::string chain_name(const std::vector<std::string>& tars) {
  std::optional<Digest> chain;
  for (const std::string& tar : tars) chain = chain_id(chain, Sha256::of(tar));
  return chain->str();
}

std::string chain() {
  return chain_name({base_tar(), implying_tar()});
}

std::unique_ptr<Snapshotter> snapshots(Store& store) {
  return open_snapshotter(store, kSpace);
}

void prepare(Store& store) {
  import_chain(store, {base_tar(), implying_tar()});
  (void)snapshots(store)->prepare("active", chain(), {{"label", "kept"}});
  const SnapshotRecord active = store.meta().read().maybe_snapshot(kSpace, "active").value();
  const UniqueFd upper = store.layout().open_upper(active.id);
  write_file_at(upper.get(), "written", "by the container", 0644);
}

class StoreSweep : public testing::TestWithParam<Form> {
 protected:
  static void sweep(const Operation& operation, const Operation& more = [](Store&) {}) {
    const Form form = GetParam();
    test::sweep_store(form,
                      {.prepare =
                           [&](const Scratch& scratch) {
                             prepare(*std::make_unique<Store>(test::store_options(scratch, form)));
                             test::reboot(scratch);
                             more(*std::make_unique<Store>(test::store_options(scratch, form)));
                           },
                       .operate =
                           [&](const Scratch& scratch, const std::function<void()>& arm) {
                             Store store(test::store_options(scratch, form, false));
                             arm();
                             operation(store);
                           }});
  }

  static void sweep_opening(const std::function<void(const Scratch&)>& prepare) {
    const Form form = GetParam();
    test::sweep_store(form,
                      {.prepare = prepare,
                       .operate = [&](const Scratch& scratch, const std::function<void()>& arm) {
                         arm();
                         const Store store(test::store_options(scratch, form, false));
                       }});
  }
};

TEST_P(StoreSweep, Open) {
  sweep_opening([](const Scratch&) {});
}

// What a crash left is cleared by the next to open, who may die of it, too.
TEST_P(StoreSweep, Recover) {
  const Form form = GetParam();
  sweep_opening([&](const Scratch& scratch) {
    Store store(test::store_options(scratch, form));
    prepare(store);
    test::reboot(scratch);
    const Layout& layout = store.layout();
    make_dir_at(layout.snapshots(), "77", 0700);
    make_dir_at(layout.layers(), Layout::digest_name(Digest()), 0700);
    write_file_at(layout.blobs(), Layout::digest_name(Digest()), "x", 0600);
    make_dir_at(layout.staging(), "left", 0700);
    make_dir_at(layout.trash(), "left", 0700);
    store.open_mark().keep();
  });
}

TEST_P(StoreSweep, ImportAChain) {
  sweep([](Store& store) { import_chain(store, {top_tar(), base_tar(), implying_tar()}); });
}
TEST_P(StoreSweep, ImportOneThatIsThereOverOthers) {
  const std::string other = LayerTar().dir("app", {.mode = 0711}).bytes();
  sweep([&](Store& store) { import_chain(store, {other, implying_tar()}); });
}
TEST_P(StoreSweep, Prepare) {
  sweep([](Store& store) { (void)snapshots(store)->prepare("new", chain(), {{"l", "v"}}); });
}
TEST_P(StoreSweep, PrepareOverNothing) {
  sweep([](Store& store) { (void)snapshots(store)->prepare("new", "", {}); });
}
TEST_P(StoreSweep, ViewOfOneLayer) {
  sweep([](Store& store) { (void)snapshots(store)->view("new", chain_name({base_tar()}), {}); });
}
TEST_P(StoreSweep, Mounts) {
  sweep([](Store& store) { (void)snapshots(store)->mounts("active"); });
}
TEST_P(StoreSweep, Update) {
  sweep([](Store& store) {
    SnapshotInfo info = snapshots(store)->stat("active");
    info.labels = {{"label", "new"}};
    (void)snapshots(store)->update(info, {});
  });
}
TEST_P(StoreSweep, Commit) {
  sweep([](Store& store) { snapshots(store)->commit("committed", "active", {}); });
}
TEST_P(StoreSweep, CommitOntoAnotherParent) {
  sweep(
      [](Store& store) {
        snapshots(store)->commit("committed", "alone", {.labels = {}, .parent = chain()});
      },
      [](Store& store) { (void)snapshots(store)->prepare("alone", "", {}); });
}
TEST_P(StoreSweep, RemoveAnActiveOne) {
  sweep([](Store& store) { snapshots(store)->remove("active"); });
}
TEST_P(StoreSweep, RemoveTheLastThatHasALayer) {
  const auto import_another = [](Store& store) { import_chain(store, {top_tar()}); };
  sweep([](Store& store) { snapshots(store)->remove(chain_name({top_tar()})); }, import_another);
}
TEST_P(StoreSweep, Mount) {
  sweep([](Store& store) { (void)store.mount(kSpace, "active"); });
}
TEST_P(StoreSweep, Unmount) {
  sweep([](Store& store) { EXPECT_TRUE(store.unmount(kSpace, "active")); },
        [](Store& store) { (void)store.mount(kSpace, "active"); });
}
TEST_P(StoreSweep, Cleanup) {
  sweep([](Store& store) { snapshots(store)->cleanup(); },
        [](Store& store) {
          (void)snapshots(store)->prepare("removed", chain(), {});
          snapshots(store)->remove("removed");
        });
}

// --- repair ------------------------------------------------------------------------------------

class OneTar final : public RepairSource {
 public:
  explicit OneTar(std::string tar) : tar_(std::move(tar)) {}
  std::unique_ptr<Source> maybe_layer(const Digest& diff_id) override {
    if (diff_id != Sha256::of(tar_)) return nullptr;
    return std::make_unique<MemorySource>(std::as_bytes(std::span(tar_)));
  }
  std::optional<std::string> maybe_blob(const Digest&) override { return std::nullopt; }

 private:
  std::string tar_;
};

// A repair that cannot be done reports that and does not throw.
void repair(Store& store) {
  OneTar source(base_tar());
  const auto left =
      repair_store(store, check_store(store, test::kAlone).damages,
                   {.is_dry_run = false, .source = &source, .report = {}, .check = test::kAlone});
  if (!left.empty()) fail(Code::io, "{}: {}", left.front().what, left.front().why);
}

UniqueFd layer_directory(Store& store, const std::string& tar) {
  return open_dir_at(store.layout().layers(), Layout::digest_name(Sha256::of(tar)));
}

TEST_P(StoreSweep, RepairAnIndexOrATree) {
  sweep(repair, [](Store& store) {
    Meta::Transaction transaction = store.meta().read();
    const auto layer = transaction.maybe_layer(Sha256::of(implying_tar()));
    const VariantRecord variant = transaction.list_variants(layer->id).front();
    (void)remove_tree_at(layer_directory(store, implying_tar()).get(),
                         RelPath::parse_name(variant.name, "variant"));
  });
}
TEST_P(StoreSweep, RepairATar) {
  sweep(repair, [](Store& store) {
    const UniqueFd layer = layer_directory(store, base_tar());
    set_size(open_at(layer.get(), kLayerTarName, O_RDWR).get(), 512);
  });
}
TEST_P(StoreSweep, RepairAnOrphan) {
  sweep(repair, [](Store& store) { make_dir_at(store.layout().snapshots(), "77", 0700); });
}
TEST_P(StoreSweep, RepairAWorkDirectory) {
  sweep(repair, [](Store& store) {
    const SnapshotRecord active = store.meta().read().maybe_snapshot(kSpace, "active").value();
    (void)remove_tree_at(store.layout().open_snapshot(active.id).get(), kWorkName);
  });
}

INSTANTIATE_TEST_SUITE_P(Forms, StoreSweep, testing::Values(Form::packed, Form::directory),
                         [](const auto& form) {
                           return form.param == Form::packed ? "Packed" : "Directory";
                         });

}  // namespace
}  // namespace veneer
