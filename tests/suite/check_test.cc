// store/check and store/repair over layers that tests/e2e/cli_check.sh does not have: those that
// depend on what is below them, in both forms; and while others work.
#include "store/check.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

#include "base/error.h"
#include "layer/settle.h"
#include "store/repair.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::LayerTar;

constexpr std::string_view kSpace = "test";

class Tars final : public RepairSource {
 public:
  void add(const std::string& tar) { tars_[Sha256::of(tar)] = tar; }
  std::unique_ptr<Source> maybe_layer(const Digest& diff_id) override {
    const auto found = tars_.find(diff_id);
    if (found == tars_.end()) return nullptr;
    return std::make_unique<MemorySource>(std::as_bytes(std::span(found->second)));
  }
  std::optional<std::string> maybe_blob(const Digest&) override { return std::nullopt; }

 private:
  std::map<Digest, std::string> tars_;
};

std::string kinds(const std::vector<Damage>& damages) {
  std::string text;
  for (const Damage& damage : damages)
    text += (text.empty() ? "" : " ") + std::string(to_string(damage.kind));
  return text;
}

std::string names_of(const std::vector<VariantRecord>& variants) {
  std::string text;
  for (const VariantRecord& variant : variants)
    text += fmt::format("{} {} {}\n", variant.id, variant.name,
                        variant.digest ? variant.digest->hex() : "");
  return text;
}

class Check : public testing::TestWithParam<Form> {
 protected:
  Check()
      : store_({.root = scratch_.path() + "/root",
                .run = scratch_.path() + "/run",
                .is_volatile = false,
                .form = GetParam()}) {}

  // Lowest first.
  void load(const std::vector<std::string>& tars) {
    std::vector<LayerBlob> blobs;
    for (const std::string& tar : tars) {
      tars_.add(tar);
      blobs.push_back(
          {.diff_id = Sha256::of(tar),
           .blob_digest = {},
           .blob_size = {},
           .open = [&tar] { return std::make_unique<MemorySource>(std::as_bytes(std::span(tar))); },
           .write = {}});
    }
    for (;;) {
      Import import(store_, std::nullopt, blobs);
      import.stage();
      Meta::Transaction transaction = store_.meta().write();
      if (!import.publish(transaction)) continue;
      (void)add_chain(transaction, kSpace, import.layers());
      transaction.commit();
      return;
    }
  }
  std::vector<Damage> check(bool is_fast = false) {
    return check_store(store_, {.is_fast = is_fast, .layers = {}, .progress = {}}).damages;
  }
  std::vector<Damage> repair(RepairSource* source = nullptr) {
    return repair_store(
        store_, check(),
        {.is_dry_run = false, .source = source, .parse_layers = {}, .report = {}, .check = {}});
  }
  // The variants of a layer, by id.
  std::vector<VariantRecord> variants(const std::string& tar) {
    Meta::Transaction transaction = store_.meta().read();
    return transaction.list_variants(transaction.maybe_layer(Sha256::of(tar))->id);
  }
  UniqueFd directory(const std::string& tar) {
    return open_dir_at(store_.layout().layers(), Layout::digest_name(Sha256::of(tar)));
  }
  void damage(const VariantRecord& variant, const std::string& tar) {
    const UniqueFd layer = directory(tar);
    const RelPath name = RelPath::parse_name(variant.name, "variant");
    if (variant.form == Form::directory) {
      (void)remove_tree_at(layer.get(), name);
      return;
    }
    // Some byte of the superblock, which is 1 KiB into it.
    const UniqueFd index = open_at(layer.get(), name, O_RDWR);
    std::byte bytes[1];
    ASSERT_EQ(read_some_at(index.get(), bytes, 1100), 1U);
    bytes[0] ^= std::byte{1};
    write_all_at(index.get(), bytes, 1100);
  }

  test::Scratch scratch_;
  Store store_;
  Tars tars_;
};

// "app" is 0700 below, and not named in the upper layer: its index has that mode.
std::string base_tar(uint32_t mode) {
  return LayerTar().dir("app", {.mode = mode}).file("app/old", "old").bytes();
}

std::string implying_tar() {
  return LayerTar().file("app/new", "new").bytes();
}

std::string linking_tar() {
  return LayerTar().dir("app").hard_link("app/linked", "app/old").bytes();
}

TEST_P(Check, LayersThatDependOnLowerOnesAreCleanAndRepaired) {
  const std::string first = base_tar(0700);
  const std::string second = base_tar(0711);
  const std::string upper = implying_tar();
  load({first, upper});
  load({second, upper});
  EXPECT_EQ(kinds(check()), "");
  const std::vector<VariantRecord> both = variants(upper);
  ASSERT_EQ(both.size(), 2U);
  const std::string kind = GetParam() == Form::packed ? "index" : "tree";
  for (const VariantRecord& variant : both) {
    damage(variant, upper);
    EXPECT_EQ(kinds(check()), kind);
    EXPECT_EQ(kinds(repair()), "");
    EXPECT_EQ(kinds(check()), "");
  }
  EXPECT_EQ(names_of(variants(upper)), names_of(both));
  // The one below and the one above at once.
  damage(variants(first).front(), first);
  for (const VariantRecord& variant : both) damage(variant, upper);
  EXPECT_EQ(kinds(check()), kind + " " + kind + " " + kind);
  EXPECT_EQ(kinds(repair()), "");
  EXPECT_EQ(kinds(check()), "");
}

TEST_P(Check, AnIndexOfOtherLowerLayersIsFound) {
  if (GetParam() == Form::directory) return;  // trees have no digest
  const std::string upper = implying_tar();
  load({base_tar(0700), upper});
  load({base_tar(0711), upper});
  const std::vector<VariantRecord> both = variants(upper);
  ASSERT_EQ(both.size(), 2U);
  // Whole, and as the database says, but in the wrong place.
  const UniqueFd layer = directory(upper);
  exchange_at(layer.get(), RelPath::parse_name(both[0].name, "index"), layer.get(),
              RelPath::parse_name(both[1].name, "index"));
  EXPECT_EQ(kinds(check()), "index index");
  EXPECT_EQ(kinds(repair()), "");
}

TEST_P(Check, TreesWithLinksIntoLowerLayersAreMadeAnew) {
  const std::string base = base_tar(0700);
  const std::string upper = linking_tar();
  load({base, upper});
  EXPECT_EQ(kinds(check()), "");
  ASSERT_EQ(variants(upper).size(), 1U);
  const VariantRecord variant = variants(upper).front();
  ASSERT_EQ(variant.form, Form::directory);
  const UniqueFd layer = directory(upper);
  const RelPath name = RelPath::parse_name(variant.name, "variant");
  {
    const UniqueFd tree = open_dir_at(layer.get(), name);
    unlink_at(tree.get(), "app/linked");
  }
  EXPECT_EQ(kinds(check()), "tree");
  EXPECT_EQ(kinds(check(true)), "");  // names only
  EXPECT_EQ(kinds(repair()), "");
  const UniqueFd tree = open_dir_at(layer.get(), name);
  EXPECT_EQ(read_file_at(tree.get(), "app/linked", 100), "old");
}

// Whatever is changed in a tree is found, and which file it is.
TEST_P(Check, TreesAreComparedFileByFile) {
  if (GetParam() == Form::packed) return;
  const std::string base =
      LayerTar().dir("d").file("d/kept", "kept").file("d/gone", "gone").bytes();
  const std::string tar = LayerTar()
                              .dir("d")
                              .file("d/file", std::string(300000, 'x'))
                              .hard_link("d/hard", "d/file")
                              .symlink("d/soft", "file")
                              .char_device("d/null", 1, 3)
                              .file("d/marked", "", {.xattrs = {{"user.mark", "1"}}})
                              .whiteout("d/gone")
                              .dir("hidden")
                              .opaque("hidden")
                              .bytes();
  load({base, tar});
  ASSERT_EQ(kinds(check()), "");
  const auto change = [&](std::string_view what, const auto& how) {
    SCOPED_TRACE(what);
    {
      const UniqueFd layer = directory(tar);
      const UniqueFd tree =
          open_dir_at(layer.get(), RelPath::parse_name(variants(tar).front().name, "variant"));
      how(tree.get());
    }
    const std::vector<Damage> found = check();
    ASSERT_EQ(kinds(found), "tree");
    EXPECT_NE(found.front().why.find(what), std::string::npos) << found.front().why;
    EXPECT_EQ(kinds(repair()), "");
  };
  const auto keep_time = [](int dir, PathView path, const auto& how) {
    const struct stat st = stat_at(dir, path);
    how();
    set_times_at(dir, path, st.st_mtim, st.st_mtim);
  };
  change("d/file", [&](int tree) {
    keep_time(tree, "d/file", [&] {
      const UniqueFd file = open_at(tree, "d/file", O_WRONLY);
      write_all_at(file.get(), std::as_bytes(std::span("y", 1)), 299999);
    });
  });
  change("d/file", [](int tree) { chmod_at(tree, "d/file", 0600); });
  change("d/file", [](int tree) { chown_at(tree, "d/file", 1, 0); });
  change("d/file", [](int tree) { set_times_at(tree, "d/file", {}, {}); });
  change("d/hard", [&](int tree) {
    keep_time(tree, "d", [&] {
      unlink_at(tree, "d/hard");
      write_file_at(tree, "d/hard", std::string(300000, 'x'), 0644);
    });
  });
  change("d/soft", [&](int tree) {
    keep_time(tree, "d", [&] {
      unlink_at(tree, "d/soft");
      make_symlink_at("elsewhere", tree, "d/soft");
    });
  });
  change("d/null", [&](int tree) {
    keep_time(tree, "d", [&] {
      unlink_at(tree, "d/null");
      make_node_at(tree, "d/null", S_IFCHR | 0644, 0);
    });
  });
  change("d/marked", [](int tree) { set_xattr_at(tree, "d/marked", "user.mark", "2"); });
  change("d/gone", [&](int tree) { keep_time(tree, "d", [&] { unlink_at(tree, "d/gone"); }); });
  change("hidden", [](int tree) { remove_xattr_at(tree, "hidden", "trusted.overlay.opaque"); });
  change("hidden", [&](int tree) {
    keep_time(tree, "hidden", [&] { write_file_at(tree, "hidden/extra", "", 0644); });
  });
}

TEST_P(Check, AWholeChainComesBackFromItsTars) {
  const std::string base = base_tar(0700);
  const std::string upper = implying_tar();
  const std::string links = linking_tar();
  load({base, upper, links});
  for (const std::string& tar : {base, upper, links})
    (void)remove_tree_at(store_.layout().layers(), Layout::digest_name(Sha256::of(tar)));
  EXPECT_EQ(kinds(check(true)), "layer layer layer");
  EXPECT_EQ(kinds(repair()), "layer layer layer");
  EXPECT_EQ(kinds(repair(&tars_)), "");
  EXPECT_EQ(kinds(check()), "");
}

TEST_P(Check, AVariantThatNothingHasGoesWithItsFile) {
  const std::string second = base_tar(0711);
  const std::string upper = implying_tar();
  load({base_tar(0700), upper});
  load({second, upper});
  const std::vector<VariantRecord> both = variants(upper);
  ASSERT_EQ(both.size(), 2U);
  const Digest below = chain_id(std::nullopt, Sha256::of(second));
  open_snapshotter(store_, kSpace)->remove(chain_id(below, Sha256::of(upper)).str());
  EXPECT_EQ(kinds(check()), "");
  damage(both[1], upper);
  EXPECT_EQ(kinds(check()), GetParam() == Form::packed ? "index" : "tree");
  EXPECT_EQ(kinds(repair()), "");
  ASSERT_EQ(variants(upper).size(), 1U);
  EXPECT_EQ(variants(upper).front().name, both[0].name);
}

// What comes and goes meanwhile is no damage.
TEST_P(Check, OthersMayWorkMeanwhile) {
  load({base_tar(0700)});
  std::atomic<bool> is_done = false;
  const auto work = [&](const std::string& tag) {
    const auto snapshotter = open_snapshotter(store_, tag);
    for (int round = 0; !is_done; ++round) {
      const std::string text = fmt::format("{} {}", tag, round);
      const std::string tar = LayerTar().file("file", text).bytes();
      Import import(
          store_, std::nullopt,
          {{.diff_id = {},
            .blob_digest = {},
            .blob_size = {},
            .open =
                [&tar] { return std::make_unique<MemorySource>(std::as_bytes(std::span(tar))); },
            .write = {}}});
      import.stage();
      {
        Meta::Transaction transaction = store_.meta().write();
        ASSERT_TRUE(import.publish(transaction));
        (void)add_chain(transaction, tag, import.layers());
        transaction.commit();
      }
      const std::string name = Sha256::of(tar).str();
      (void)snapshotter->prepare("active", name, {});
      snapshotter->remove("active");
      snapshotter->remove(name);
      store_.collect(store_.meta().write());
    }
  };
  std::thread first(work, "first");
  std::thread second(work, "second");
  for (int round = 0; round < 30; ++round) EXPECT_EQ(kinds(check(round % 2 == 1)), "");
  is_done = true;
  first.join();
  second.join();
  EXPECT_EQ(kinds(check()), "");
}

INSTANTIATE_TEST_SUITE_P(Forms, Check, testing::Values(Form::packed, Form::directory),
                         [](const auto& form) {
                           return form.param == Form::packed ? "Packed" : "Directory";
                         });

}  // namespace
}  // namespace veneer
