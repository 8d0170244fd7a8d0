#include "store/meta.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "base/at.h"
#include "base/error.h"
#include "base/failpoint.h"
#include "base/fd.h"
#include "base/limits.h"
#include "store/layout.h"
#include "store/meta_sql.h"
#include "store/test_root.h"

namespace veneer {
namespace {

constexpr uint64_t kDatabaseBytes = 64 << 20;

template <typename Call>
Code code_of(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no error";
  return Code::io;
}

Time at_second(int64_t second) {
  return Time(std::chrono::seconds(second) + std::chrono::nanoseconds(123456789));
}

SnapshotRecord named(std::string_view key, std::optional<int64_t> parent = {},
                     Kind kind = Kind::committed) {
  SnapshotRecord snapshot;
  snapshot.space = "test";
  snapshot.info.name = key;
  snapshot.info.kind = kind;
  snapshot.parent = parent;
  return snapshot;
}

ImageRecord image_of(std::string_view text, Time added, std::optional<int64_t> top = {}) {
  return {.id = 0, .config = Sha256::of(text), .top = top, .added = added, .names = {}};
}

// Adds a layer with one variant.
VariantRecord add_layer(Meta::Transaction& transaction, std::string_view text) {
  VariantRecord variant;
  variant.diff_id = Sha256::of(text);
  variant.layer =
      transaction.add_layer({.diff_id = variant.diff_id, .tar_bytes = 10240, .file_bytes = 77});
  variant.name = "layer.erofs";
  variant.digest = Sha256::of("index");
  variant.usage = {.size_bytes = 12288, .inodes = 2};
  variant.id = transaction.add_variant(variant);
  return variant;
}

void expect_equal(const VariantRecord& a, const VariantRecord& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.layer, b.layer);
  EXPECT_EQ(a.diff_id, b.diff_id);
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.form, b.form);
  EXPECT_EQ(a.digest, b.digest);
  EXPECT_EQ(a.usage, b.usage);
}

void expect_equal(const SnapshotRecord& a, const SnapshotRecord& b) {
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ(a.space, b.space);
  EXPECT_EQ(a.info.name, b.info.name);
  EXPECT_EQ(a.info.parent, b.info.parent);
  EXPECT_EQ(a.info.kind, b.info.kind);
  EXPECT_EQ(a.info.created, b.info.created);
  EXPECT_EQ(a.info.updated, b.info.updated);
  EXPECT_EQ(a.info.labels, b.info.labels);
  EXPECT_EQ(a.parent, b.parent);
  EXPECT_EQ(a.usage, b.usage);
  ASSERT_EQ(a.variant.has_value(), b.variant.has_value());
  if (a.variant) expect_equal(*a.variant, *b.variant);
}

class MetaTest : public testing::Test {
 protected:
  int64_t add(const SnapshotRecord& snapshot) {
    Meta::Transaction transaction = meta_.write();
    const int64_t id = transaction.add_snapshot(snapshot);
    transaction.commit();
    return id;
  }
  bool has(std::string_view key) { return meta_.read().maybe_snapshot("test", key).has_value(); }

  TestRoot root_;
  Layout layout_{root_.path() + "/store"};
  Meta meta_{layout_, true};
};

// --- records -----------------------------------------------------------------------------------

TEST_F(MetaTest, LayersAndVariants) {
  Meta::Transaction transaction = meta_.write();
  const VariantRecord packed = add_layer(transaction, "a");
  VariantRecord directory = packed;
  directory.name = "fs.0123";
  directory.form = Form::directory;
  directory.digest = std::nullopt;
  directory.usage = {};
  directory.id = transaction.add_variant(directory);
  const VariantRecord other = add_layer(transaction, "b");
  EXPECT_LT(packed.layer, other.layer);

  const std::optional<LayerRecord> layer = transaction.maybe_layer(Sha256::of("a"));
  ASSERT_TRUE(layer);
  EXPECT_EQ(layer->id, packed.layer);
  EXPECT_EQ(layer->diff_id, Sha256::of("a"));
  EXPECT_EQ(layer->tar_bytes, 10240u);
  EXPECT_EQ(layer->file_bytes, 77u);
  EXPECT_FALSE(layer->depends_on_lower);
  EXPECT_FALSE(transaction.maybe_layer(Sha256::of("c")));
  EXPECT_EQ(transaction.list_layers().size(), 2u);

  const std::vector<VariantRecord> variants = transaction.list_variants(packed.layer);
  ASSERT_EQ(variants.size(), 2u);
  expect_equal(variants[0], packed);
  expect_equal(variants[1], directory);
  expect_equal(*transaction.maybe_variant(packed.layer, "fs.0123"), directory);
  EXPECT_FALSE(transaction.maybe_variant(packed.layer, "fs"));

  EXPECT_EQ(code_of([&] { transaction.add_layer(*layer); }), Code::already_exists);
  EXPECT_EQ(code_of([&] { transaction.add_variant(packed); }), Code::already_exists);
  directory.layer = 99;
  EXPECT_EQ(code_of([&] { transaction.add_variant(directory); }), Code::failed_precondition);
  // An error of one statement leaves the transaction as it was.
  transaction.commit();
  EXPECT_EQ(meta_.read().list_layers().size(), 2u);
}

TEST_F(MetaTest, Snapshots) {
  Meta::Transaction transaction = meta_.write();
  SnapshotRecord base = named("sha256:1 of /a b");
  base.info.created = at_second(1'700'000'000);
  base.info.updated = at_second(-5);
  base.info.labels = {{"a", "1"}, {"containerd.io/gc.root", ""}, {std::string("n\0l", 3), "\xff"}};
  base.variant = add_layer(transaction, "a");
  base.usage = Usage{.size_bytes = 4096, .inodes = 3};
  base.id = transaction.add_snapshot(base);
  expect_equal(*transaction.maybe_snapshot("test", base.info.name), base);
  expect_equal(transaction.snapshot(base.id), base);
  EXPECT_FALSE(transaction.maybe_snapshot("else", base.info.name));

  SnapshotRecord top = named("top", base.id, Kind::active);
  top.id = transaction.add_snapshot(top);
  top.info.parent = base.info.name;
  expect_equal(transaction.snapshot(top.id), top);

  top.info.name = "committed";
  top.info.kind = Kind::committed;
  top.info.created = top.info.updated = at_second(7);
  top.info.labels = {{"b", "2"}};
  top.usage = Usage{.size_bytes = 1, .inodes = 1};
  top.variant = base.variant;
  transaction.update_snapshot(top);
  expect_equal(transaction.snapshot(top.id), top);
  EXPECT_FALSE(transaction.maybe_snapshot("test", "top"));
  base.info.labels.erase("a");
  base.info.labels["containerd.io/gc.root"] = "x";
  transaction.update_snapshot(base);
  expect_equal(transaction.snapshot(base.id), base);

  EXPECT_EQ(code_of([&] { transaction.add_snapshot(top); }), Code::already_exists);
  top.info.name = base.info.name;
  EXPECT_EQ(code_of([&] { transaction.update_snapshot(top); }), Code::already_exists);
  top.space = "else";
  top.id = transaction.add_snapshot(top);
  EXPECT_EQ(transaction.list_snapshots("", 0, 10).size(), 3u);
  EXPECT_EQ(code_of([&] { transaction.snapshot(99); }), Code::corrupt);
  top.id = 99;
  EXPECT_EQ(code_of([&] { transaction.update_snapshot(top); }), Code::corrupt);
}

TEST_F(MetaTest, ParentsStay) {
  Meta::Transaction transaction = meta_.write();
  const int64_t base = transaction.add_snapshot(named("base"));
  SnapshotRecord with_labels = named("top", base);
  with_labels.info.labels = {{"a", "b"}};
  const int64_t top = transaction.add_snapshot(with_labels);
  EXPECT_TRUE(transaction.has_children(base));
  EXPECT_FALSE(transaction.has_children(top));
  EXPECT_EQ(code_of([&] { transaction.remove_snapshot(base); }), Code::failed_precondition);
  EXPECT_EQ(code_of([&] { transaction.add_snapshot(named("orphan", 99)); }),
            Code::failed_precondition);
  transaction.remove_snapshot(top);
  EXPECT_FALSE(transaction.has_children(base));
  transaction.remove_snapshot(base);
  // Ids are not used again, and labels have gone with their snapshots.
  const int64_t next = transaction.add_snapshot(named("next"));
  EXPECT_GT(next, top);
  EXPECT_TRUE(transaction.snapshot(next).info.labels.empty());
}

TEST_F(MetaTest, ListsInPages) {
  Meta::Transaction transaction = meta_.write();
  std::vector<int64_t> ids;
  for (int i = 0; i < 10; ++i) {
    SnapshotRecord snapshot = named(fmt::format("s{}", 9 - i));
    snapshot.space = i % 2 == 0 ? "even" : "odd";
    snapshot.info.labels = {{"number", fmt::format("{}", i)}};
    ids.push_back(transaction.add_snapshot(snapshot));
  }
  const std::vector<SnapshotRecord> all = transaction.list_snapshots("", 0, SIZE_MAX);
  ASSERT_EQ(all.size(), 10u);
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].id, ids[i]);
    EXPECT_EQ(all[i].info.labels.at("number"), fmt::format("{}", i));
  }
  const std::vector<SnapshotRecord> page = transaction.list_snapshots("odd", ids[1], 2);
  ASSERT_EQ(page.size(), 2u);
  EXPECT_EQ(page[0].id, ids[3]);
  EXPECT_EQ(page[1].id, ids[5]);
  EXPECT_TRUE(transaction.list_snapshots("odd", ids[9], 2).empty());
  EXPECT_TRUE(transaction.list_snapshots("other", 0, 2).empty());
}

TEST_F(MetaTest, ChainsHaveALimit) {
  Meta::Transaction transaction = meta_.write();
  std::optional<int64_t> top;
  for (size_t i = 0; i < limits::kSnapshotDepth; ++i)
    top = transaction.add_snapshot(named(fmt::format("layer {}", i), top));
  EXPECT_EQ(transaction.chain(*top).size(), limits::kSnapshotDepth);
  EXPECT_EQ(transaction.chain(*top).front().id, *top);
  EXPECT_FALSE(transaction.chain(*top).back().parent);
  const int64_t container = transaction.add_snapshot(named("container", top, Kind::active));
  EXPECT_EQ(transaction.chain(container).size(), limits::kSnapshotDepth + 1);
  const int64_t too_deep = transaction.add_snapshot(named("too deep", top));
  EXPECT_EQ(code_of([&] { transaction.chain(too_deep); }), Code::resource_exhausted);
}

TEST_F(MetaTest, AChainThatIsALoopIsDamage) {
  Meta::Transaction transaction = meta_.write();
  const int64_t lower = transaction.add_snapshot(named("lower", std::nullopt));
  SnapshotRecord upper = named("upper", lower);
  upper.id = transaction.add_snapshot(upper);
  transaction.commit();
  SqlConnection(layout_.path() + "/store.db")
      .run(fmt::format("UPDATE snapshots SET parent = {} WHERE id = {}", upper.id, lower));
  EXPECT_EQ(code_of([&] { meta_.read().chain(upper.id); }), Code::corrupt);
}

TEST_F(MetaTest, UnusedLayers) {
  Meta::Transaction transaction = meta_.write();
  SnapshotRecord snapshot = named("a");
  snapshot.variant = add_layer(transaction, "a");
  transaction.add_snapshot(snapshot);
  VariantRecord second = *snapshot.variant;  // unused, of a layer that is used
  second.name = "fs";
  transaction.add_variant(second);
  const VariantRecord unused = add_layer(transaction, "b");
  const int64_t bare = transaction.add_layer({.diff_id = Sha256::of("c")});

  EXPECT_EQ(transaction.list_unused_layers().layers.size(), 2u);
  const Meta::Transaction::Unused removed = transaction.remove_unused_layers();
  ASSERT_EQ(removed.layers.size(), 2u);
  EXPECT_EQ(removed.layers[0].id, unused.layer);
  EXPECT_EQ(removed.layers[0].diff_id, Sha256::of("b"));
  EXPECT_EQ(removed.layers[1].id, bare);
  ASSERT_EQ(removed.variants.size(), 1u);
  expect_equal(removed.variants[0], unused);
  EXPECT_EQ(transaction.list_layers().size(), 1u);
  EXPECT_EQ(transaction.list_variants(second.layer).size(), 2u);
  EXPECT_TRUE(transaction.list_variants(unused.layer).empty());
  EXPECT_TRUE(transaction.list_unused_layers().layers.empty());
  EXPECT_GT(add_layer(transaction, "b").id, unused.id);
}

TEST_F(MetaTest, ImagesAndTheirNames) {
  Meta::Transaction transaction = meta_.write();
  const int64_t top = transaction.add_snapshot(named("top"));
  const int64_t old = transaction.add_image(image_of("old", at_second(1), top));
  const int64_t fresh = transaction.add_image(image_of("new", at_second(2)));
  transaction.set_image_name("b:latest", old);
  transaction.set_image_name("a:latest", old);
  std::optional<ImageRecord> image = transaction.maybe_image(Sha256::of("old"));
  ASSERT_TRUE(image);
  EXPECT_EQ(image->id, old);
  EXPECT_EQ(image->config, Sha256::of("old"));
  EXPECT_EQ(image->top, top);
  EXPECT_EQ(image->added, at_second(1));
  EXPECT_EQ(image->names, (std::vector<std::string>{"a:latest", "b:latest"}));

  transaction.set_image_name("a:latest", fresh);
  transaction.set_image_name("a:latest", fresh);
  image = transaction.maybe_image_by_name("a:latest");
  ASSERT_TRUE(image);
  EXPECT_EQ(image->id, fresh);
  EXPECT_FALSE(image->top);
  EXPECT_EQ(transaction.maybe_image(Sha256::of("old"))->names,
            (std::vector<std::string>{"b:latest"}));
  const std::vector<ImageRecord> images = transaction.list_images();
  ASSERT_EQ(images.size(), 2u);
  EXPECT_EQ(images[0].id, fresh);
  EXPECT_EQ(images[0].names, (std::vector<std::string>{"a:latest"}));

  EXPECT_EQ(code_of([&] { transaction.add_image(*image); }), Code::already_exists);
  EXPECT_EQ(code_of([&] { transaction.set_image_name("c", 99); }), Code::failed_precondition);
  EXPECT_TRUE(transaction.is_image_top(top));
  EXPECT_EQ(code_of([&] { transaction.remove_snapshot(top); }), Code::failed_precondition);
  transaction.remove_image_name("a:latest");
  EXPECT_FALSE(transaction.maybe_image_by_name("a:latest"));
  EXPECT_TRUE(transaction.maybe_image(Sha256::of("new")));
  transaction.remove_image(old);
  EXPECT_FALSE(transaction.maybe_image_by_name("b:latest"));
  EXPECT_FALSE(transaction.maybe_image(Sha256::of("old")));
  EXPECT_FALSE(transaction.is_image_top(top));
  transaction.remove_snapshot(top);
}

TEST_F(MetaTest, Containers) {
  Meta::Transaction transaction = meta_.write();
  const int64_t image = transaction.add_image(image_of("i", at_second(1)));
  ContainerRecord container{.id = Sha256::of("1").hex(),
                            .name = "brave_seal",
                            .image = Sha256::of("i"),
                            .snapshot = transaction.add_snapshot(named("1")),
                            .created = at_second(1)};
  transaction.add_container(container);
  const std::optional<ContainerRecord> found = transaction.maybe_container_by_name("brave_seal");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->id, container.id);
  EXPECT_EQ(found->name, "brave_seal");
  EXPECT_EQ(found->image, Sha256::of("i"));
  EXPECT_EQ(found->snapshot, container.snapshot);
  EXPECT_EQ(found->created, at_second(1));
  EXPECT_TRUE(transaction.maybe_container(container.id));

  EXPECT_EQ(code_of([&] { transaction.add_container(container); }), Code::already_exists);
  ContainerRecord second = container;
  second.id = Sha256::of("2").hex();
  second.snapshot = transaction.add_snapshot(named("2"));
  EXPECT_EQ(code_of([&] { transaction.add_container(second); }), Code::already_exists);
  second.name = "calm_owl";
  second.created = at_second(2);
  transaction.add_container(second);
  second.image = Sha256::of("absent");
  EXPECT_EQ(code_of([&] { transaction.add_container(second); }), Code::not_found);
  ASSERT_EQ(transaction.list_containers().size(), 2u);
  EXPECT_EQ(transaction.list_containers()[0].name, "calm_owl");
  EXPECT_EQ(transaction.count_containers(image), 2u);
  EXPECT_EQ(transaction.count_containers(image + 1), 0u);
  EXPECT_EQ(transaction.list_container_ids("", 9).size(), 2u);
  EXPECT_EQ(transaction.list_container_ids("", 1).size(), 1u);
  EXPECT_EQ(transaction.list_container_ids(container.id, 9),
            (std::vector<std::string>{container.id}));
  EXPECT_TRUE(transaction.list_container_ids(container.id + "0", 9).empty());

  EXPECT_EQ(code_of([&] { transaction.remove_image(image); }), Code::failed_precondition);
  EXPECT_EQ(code_of([&] { transaction.remove_snapshot(container.snapshot); }),
            Code::failed_precondition);
  transaction.remove_container(container.id);
  transaction.remove_container(second.id);
  EXPECT_FALSE(transaction.maybe_container(container.id));
  transaction.remove_image(image);
  transaction.remove_snapshot(container.snapshot);
}

TEST_F(MetaTest, Blobs) {
  Meta::Transaction transaction = meta_.write();
  transaction.add_blob(Sha256::of("b"), 7);
  transaction.add_blob(Sha256::of("b"), 8);
  transaction.add_blob(Sha256::of("a"), uint64_t{1} << 40);
  EXPECT_EQ(transaction.maybe_blob(Sha256::of("b")), 7u);
  EXPECT_EQ(transaction.maybe_blob(Sha256::of("a")), uint64_t{1} << 40);
  EXPECT_FALSE(transaction.maybe_blob(Sha256::of("c")));
  EXPECT_EQ(code_of([&] { transaction.add_blob(Sha256::of("c"), UINT64_MAX); }),
            Code::resource_exhausted);
  EXPECT_EQ(transaction.list_blobs().size(), 2u);
  transaction.remove_blob(Sha256::of("b"));
  transaction.remove_blob(Sha256::of("b"));
  EXPECT_EQ(transaction.list_blobs(), (std::vector<Digest>{Sha256::of("a")}));
}

// --- transactions ------------------------------------------------------------------------------

TEST_F(MetaTest, WhatIsNotCommittedIsNot) {
  {
    Meta::Transaction transaction = meta_.write();
    transaction.add_snapshot(named("a"));
    EXPECT_TRUE(transaction.maybe_snapshot("test", "a"));
    EXPECT_FALSE(has("a"));
  }
  EXPECT_FALSE(has("a"));
  add(named("a"));
  EXPECT_TRUE(has("a"));
}

TEST_F(MetaTest, AReaderSeesOneState) {
  Meta::Transaction before = meta_.read();
  EXPECT_TRUE(before.list_snapshots("", 0, 10).empty());
  add(named("a"));
  EXPECT_TRUE(before.list_snapshots("", 0, 10).empty());
  EXPECT_FALSE(before.maybe_snapshot("test", "a"));
  EXPECT_TRUE(has("a"));
  before.commit();
}

// SQLite's own writes and syncs are among the points.
TEST_F(MetaTest, ACommitThatFailsIsThereOrNot) {
  bool was_committed = false;
  uint64_t at = 1;
  for (bool is_through = false; !is_through; ++at) {
    ASSERT_LT(at, 100U);
    const std::string key = fmt::format("key {}", at);
    Meta::Transaction transaction = meta_.write();
    transaction.add_snapshot(named(key));
    failpoint::arm({.at = at, .error_number = EIO});
    try {
      transaction.commit();
      is_through = true;
    } catch (const Error&) {
      is_through = false;
    }
    EXPECT_EQ(failpoint::disarm() < at, is_through);
    EXPECT_TRUE(has(key) || !was_committed);  // every point before the commit, then all after it
    was_committed = has(key);
    Meta::Transaction(std::move(transaction));
    add(named("next " + key));  // the lock is free again
  }
  EXPECT_TRUE(was_committed);
  EXPECT_GE(at, 5U) << "before, writes, after";
}

TEST_F(MetaTest, AnotherStoreObjectSeesWhatWasCommitted) {
  add(named("a"));
  Meta other(layout_, false);
  EXPECT_EQ(other.identity(), meta_.identity());
  EXPECT_TRUE(other.read().maybe_snapshot("test", "a"));
  Meta::Transaction transaction = other.write();
  transaction.add_snapshot(named("b"));
  transaction.commit();
  EXPECT_TRUE(has("b"));
}

TEST_F(MetaTest, WritersComeOneAfterAnother) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 25;
  std::vector<std::unique_ptr<Meta>> metas;  // half of them share one
  metas.push_back(std::make_unique<Meta>(layout_, true));
  metas.push_back(std::make_unique<Meta>(layout_, true));
  {
    Meta::Transaction transaction = meta_.write();
    transaction.add_blob(Sha256::of("counter"), 0);
    transaction.commit();
  }
  std::atomic<bool> is_done = false;
  std::thread reader([&] {
    while (!is_done) {
      Meta::Transaction transaction = meta_.read();
      const uint64_t count = *transaction.maybe_blob(Sha256::of("counter"));
      EXPECT_EQ(transaction.list_snapshots("", 0, SIZE_MAX).size(), count);
    }
  });
  std::vector<std::thread> writers;
  for (int thread = 0; thread < kThreads; ++thread)
    writers.emplace_back([&, thread] {
      Meta& meta = thread < 2 ? meta_ : *metas[static_cast<size_t>(thread) - 2];
      for (int round = 0; round < kRounds; ++round) {
        Meta::Transaction transaction = meta.write();
        const uint64_t count = *transaction.maybe_blob(Sha256::of("counter"));
        transaction.remove_blob(Sha256::of("counter"));
        transaction.add_blob(Sha256::of("counter"), count + 1);
        transaction.add_snapshot(named(fmt::format("{} of {}", round, thread)));
        transaction.commit();
      }
    });
  for (std::thread& writer : writers) writer.join();
  is_done = true;
  reader.join();
  EXPECT_EQ(meta_.read().maybe_blob(Sha256::of("counter")), uint64_t{kThreads * kRounds});
}

// --- the file ----------------------------------------------------------------------------------

TEST_F(MetaTest, OnlyTheOwnerMayRead) {
  for (const std::string& name : list_dir(layout_.root())) {
    const struct stat status = stat_at(layout_.root(), RelPath::parse_name(name, "name"));
    EXPECT_EQ(status.st_mode & 077u, 0u) << name;
  }
}

class DatabaseTest : public testing::Test {
 protected:
  std::string path() const { return layout_.path() + "/store.db"; }
  std::string read(PathView name) { return read_file_at(layout_.root(), name, kDatabaseBytes); }
  Code open_code() {
    return code_of([&] { const Meta meta(layout_, false); });
  }

  TestRoot root_;
  Layout layout_{root_.path() + "/store"};
};

TEST_F(DatabaseTest, AnIdentityOfItsOwn) {
  const Meta meta(layout_, false);
  EXPECT_EQ(meta.identity().size(), 16u);
  EXPECT_EQ(meta.identity(), Meta(layout_, false).identity());
  const Layout other(root_.path() + "/other");
  EXPECT_NE(meta.identity(), Meta(other, false).identity());
}

TEST_F(DatabaseTest, OfANewerVersionIsNotTouched) {
  {
    const Meta meta(layout_, false);
  }
  SqlConnection(path()).run("PRAGMA user_version = 1000");
  const std::string database = read("store.db");
  const std::string log = read("store.db-wal");
  EXPECT_EQ(open_code(), Code::unsupported);
  EXPECT_EQ(read("store.db"), database);
  EXPECT_EQ(read("store.db-wal"), log);

  SqlConnection(path()).run("PRAGMA wal_checkpoint(TRUNCATE)");
  const std::string merged = read("store.db");
  EXPECT_NE(merged, database);
  EXPECT_EQ(open_code(), Code::unsupported);
  EXPECT_EQ(read("store.db"), merged);
}

constexpr const char* kToSchema1 =
    "DROP TABLE layer_blobs; ALTER TABLE layers DROP COLUMN checksum; PRAGMA user_version = 1";
// As schema 1 had them.
constexpr std::string_view kAddLayerOfSchema1 =
    "INSERT INTO layers(diff_id, tar_bytes, file_bytes, depends_on_lower) VALUES (?1, 1, 1, 0)";

TEST_F(DatabaseTest, OfAnOlderVersionIsBroughtUpToDate) {
  const std::string identity = Meta(layout_, false).identity();
  SqlConnection old(path());
  old.run(kToSchema1);
  SqlQuery(old, kAddLayerOfSchema1, Sha256::of("before")).run();

  Meta meta(layout_, false);
  EXPECT_EQ(meta.identity(), identity);
  EXPECT_EQ(meta.read().maybe_layer(Sha256::of("before")).value().checksum, std::nullopt);
  for (const uint64_t checksum : {uint64_t{0}, UINT64_MAX}) {
    const Digest diff_id = Sha256::of(fmt::format("{}", checksum));
    Meta::Transaction transaction = meta.write();
    transaction.add_layer({.diff_id = diff_id, .checksum = checksum});
    transaction.commit();
    EXPECT_EQ(meta.read().maybe_layer(diff_id).value().checksum, checksum);
  }
  // An older program that has it open goes on.
  SqlQuery(old, kAddLayerOfSchema1, Sha256::of("after")).run();
  EXPECT_EQ(meta.read().maybe_layer(Sha256::of("after")).value().checksum, std::nullopt);
}

TEST_F(DatabaseTest, OfVersion2HasNoBlobsOfLayersYet) {
  {
    Meta meta(layout_, false);
    Meta::Transaction transaction = meta.write();
    transaction.add_layer({.diff_id = Sha256::of("layer"), .checksum = 7});
    transaction.commit();
  }
  SqlConnection(path()).run("DROP TABLE layer_blobs; PRAGMA user_version = 2");
  Meta meta(layout_, false);
  EXPECT_EQ(meta.read().maybe_layer(Sha256::of("layer")).value().checksum, 7u);
  Meta::Transaction transaction = meta.write();
  transaction.add_layer_blob(Sha256::of("layer"), Sha256::of("blob"));
  transaction.add_layer_blob(Sha256::of("layer"), Sha256::of("blob"));
  transaction.add_layer_blob(Sha256::of("none"), Sha256::of("other"));
  transaction.commit();
  EXPECT_EQ(meta.read().maybe_diff_id(Sha256::of("blob")), Sha256::of("layer"));
  EXPECT_EQ(meta.read().maybe_diff_id(Sha256::of("other")), std::nullopt);
}

TEST_F(DatabaseTest, SeveralMayBringItUpToDate) {
  {
    const Meta made(layout_, false);
  }
  SqlConnection(path()).run(kToSchema1);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] { EXPECT_TRUE(Meta(layout_, false).read().list_layers().empty()); });
  for (std::thread& thread : threads) thread.join();
}

TEST_F(DatabaseTest, ThatIsNoneIsCorrupt) {
  write_file_at(layout_.root(), "store.db", std::string(5000, 'x'), 0600);
  EXPECT_EQ(open_code(), Code::corrupt);
  EXPECT_EQ(read("store.db"), std::string(5000, 'x'));
  unlink_at(layout_.root(), "store.db");
  SqlConnection(path()).run("CREATE TABLE mine(a)");
  const std::string before = read("store.db");
  EXPECT_EQ(open_code(), Code::corrupt);
  EXPECT_EQ(read("store.db"), before);
}

TEST_F(DatabaseTest, DamageIsCorrupt) {
  {
    Meta meta(layout_, false);
    Meta::Transaction transaction = meta.write();
    transaction.add_snapshot(named("a"));
    transaction.commit();
  }
  SqlConnection(path()).run("PRAGMA wal_checkpoint(TRUNCATE)");
  {
    const UniqueFd file = open_at(layout_.root(), "store.db", O_RDWR);
    const std::string noise(4096, '\xa5');
    const auto size = static_cast<uint64_t>(stat_fd(file.get()).st_size);
    for (uint64_t at = 4096; at < size; at += 4096)
      write_all_at(file.get(), std::as_bytes(std::span(noise)), at);
  }
  EXPECT_EQ(open_code(), Code::corrupt);
}

TEST_F(DatabaseTest, AnEmptyOneIsMade) {
  write_file_at(layout_.root(), "store.db", "", 0600);
  Meta meta(layout_, false);
  EXPECT_TRUE(meta.read().list_layers().empty());
}

TEST_F(DatabaseTest, SeveralMayMakeIt) {
  std::vector<std::thread> threads;
  std::vector<std::string> identities(8);
  for (std::string& identity : identities)
    threads.emplace_back([&] { identity = Meta(layout_, false).identity(); });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& identity : identities) EXPECT_EQ(identity, identities[0]);
}

void expect_integrity(const Layout& layout) {
  SqlConnection connection(layout.path() + "/store.db");
  SqlQuery check(connection, "PRAGMA integrity_check");
  ASSERT_TRUE(check.next());
  EXPECT_EQ(check.text(0), "ok");
}

// A child writes snapshots, two in each transaction, says each through the pipe, and dies at any
// time.
[[noreturn]] void write_until_killed(const Layout& layout, int pipe) {
  Meta meta(layout, true);
  for (int round = 0;; ++round) {
    Meta::Transaction transaction = meta.write();
    transaction.add_snapshot(named(fmt::format("a{}", round)));
    transaction.add_snapshot(named(fmt::format("b{}", round)));
    transaction.commit();
    if (::write(pipe, "c", 1) != 1) std::abort();
  }
}

TEST_F(DatabaseTest, SurvivesKill) {
  for (size_t round = 0; round < 6; ++round) {
    const Layout layout(root_.path() + fmt::format("/{}", round));
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const UniqueFd from_child(ends[0]);
    UniqueFd to_parent(ends[1]);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) write_until_killed(layout, to_parent.get());
    to_parent.reset();
    char said = 0;  // the first is killed while it makes the database
    for (size_t i = 0; i < round; ++i) ASSERT_EQ(::read(from_child.get(), &said, 1), 1);
    ASSERT_EQ(::usleep(static_cast<useconds_t>(700 * round)), 0);
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    Meta meta(layout, false);
    expect_integrity(layout);
    const size_t found = meta.read().list_snapshots("", 0, SIZE_MAX).size();
    EXPECT_EQ(found % 2, 0u);
    EXPECT_GE(found, 2 * round) << "what was committed is there";
    Meta::Transaction transaction = meta.write();  // the lock is free
    transaction.add_snapshot(named("after"));
    transaction.commit();
  }
}

}  // namespace
}  // namespace veneer
