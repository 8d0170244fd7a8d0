// Layers that are read before they are asked for: what comes of them, and what is left when nobody
// asks.
#include "rpc/read_ahead.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/error.h"
#include "store/check.h"
#include "store/snapshotter.h"
#include "tests/suite/snapshotter_suite.h"
#include "tests/support/layer_tar.h"
#include "tests/support/sample_layers.h"
#include "tests/support/tree.h"

namespace veneer::test {
namespace {

constexpr std::string_view kSpace = "test";
using Image = std::vector<AheadLayer>;

class ReadAheadTest : public testing::Test {
 protected:
  // Its blobs, compressed.
  Image add_image(const std::vector<std::string>& tars) {
    Image image;
    for (const std::string& tar : tars) {
      const std::string bytes = compress(tar, Compression::gzip);
      const Digest blob = Sha256::of(bytes);
      write_file_at(blobs_.get(), Layout::digest_name(blob), bytes, 0600);
      image.push_back({.blob = blob, .size_bytes = bytes.size(), .diff_id = Sha256::of(tar)});
    }
    return image;
  }
  void remove_file(const Digest& digest) {
    remove_tree_at(blobs_.get(), Layout::digest_name(digest));
  }
  std::unique_ptr<Source> open(const Digest& digest) {
    return std::make_unique<FileSource>(
        open_at(blobs_.get(), Layout::digest_name(digest), O_RDONLY));
  }
  LayerBlob blob(const Image& image, size_t index) {
    LayerBlob blob;
    blob.diff_id = image[index].diff_id;
    blob.open = [this, digest = image[index].blob] { return open(digest); };
    return blob;
  }
  static std::function<Image()> finding(const Image& image) {
    return [image] { return image; };
  }

  // What a ReadAhead says.
  ReadAhead::Options options(std::chrono::milliseconds patience = std::chrono::minutes(5)) {
    return {.open = [this](const Digest& digest) -> std::unique_ptr<Source> {
              return std::make_unique<FileSource>(
                  open_at(blobs_.get(), Layout::digest_name(digest), O_RDONLY));
            },
            .on_end =
                [this](const Digest& blob, std::string_view error) {
                  const std::scoped_lock lock(mutex_);
                  ended_[blob] = error;
                  changed_.notify_all();
                },
            .patience = patience};
  }
  // The error of reading it, "" for none.
  std::string wait_for(const Digest& blob) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(30), [&] { return ended_.contains(blob); }))
      return "not within 30 seconds";
    return ended_[blob];
  }
  static std::unique_ptr<OneLayer> take(ReadAhead& ahead, const Digest& blob) {
    return ReadAhead::Turn(ahead, blob).maybe_take([] { return false; });
  }
  // Within ten seconds.
  bool is_staging_empty() {
    for (int tries = 0; count_staging() != 0; ++tries) {
      if (tries == 1000) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
  }
  size_t count_layers() { return list_dir(store_.layout().layers()).size(); }
  size_t count_staging() { return list_dir(store_.layout().staging()).size(); }

  // A committed snapshot with the layer.
  SnapshotRecord add_snapshot(const std::string& name, OneLayer& layer, const std::string& parent) {
    Meta::Transaction transaction = store_.meta().write();
    SnapshotRecord record;
    record.space = kSpace;
    record.info.name = name;
    record.info.parent = parent;
    record.info.kind = Kind::committed;
    if (const auto below = transaction.maybe_snapshot(kSpace, parent)) record.parent = below->id;
    record.variant = layer.publish(transaction);
    record.id = transaction.add_snapshot(record);
    transaction.commit();
    return record;
  }
  void remove(const std::string& name) { open_snapshotter(store_, kSpace)->remove(name); }
  std::map<std::string, std::string> tree(const std::string& name) {
    const auto snapshots = open_snapshotter(store_, kSpace);
    const auto mounts = snapshots->view("look", name, {});
    auto lines = describe_tree(ClientMount(mounts, scratch_.path() + "/look").dir(), {});
    snapshots->remove("look");
    return lines;
  }

  Scratch scratch_;
  UniqueFd blobs_ = open_or_make_root(scratch_.path() + "/blobs", 0700).fd;
  Store store_{{.root = scratch_.path() + "/root",
                .run = scratch_.path() + "/run",
                .is_volatile = false,
                .form = {}}};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Digest, std::string> ended_;
};

TEST_F(ReadAheadTest, ALayerIsPutOverWhatItTurnsOutToLieOver) {
  const Image image = add_image({dependent_tar()});
  LayerTar base;
  base.dir("./").dir("d", {.mode = 0755}).file("d/one", "1").file("f", "base");
  LayerTar other;
  other.dir("./").dir("d", {.mode = 0700}).file("f", "other");
  for (const std::string& tar : {base.bytes(), other.bytes()}) {
    MemorySource source(std::as_bytes(std::span(tar)));
    OneLayer lower(store_, std::nullopt, blob_of(source));
    const int64_t parent = add_snapshot("below", lower, "").id;
    OneLayer in_turn(store_, parent, blob(image, 0));
    const SnapshotRecord expected = add_snapshot("in turn", in_turn, "below");
    const auto expected_tree = tree("in turn");
    remove("in turn");

    ReadAhead ahead(store_, options());
    ahead.begin(image[0].blob, finding(image));
    ASSERT_EQ(wait_for(image[0].blob), "");
    const auto layer = take(ahead, image[0].blob);
    ASSERT_NE(layer, nullptr);
    EXPECT_EQ(take(ahead, image[0].blob), nullptr);
    layer->put_over(parent, false);
    const SnapshotRecord added = add_snapshot("ahead", *layer, "below");
    EXPECT_EQ(added.variant->name, expected.variant->name);
    EXPECT_EQ(tree("ahead"), expected_tree);
    EXPECT_TRUE(check_store(store_, {}).damages.empty());
    remove("ahead");
    remove("below");
    ended_.clear();
  }
}

TEST_F(ReadAheadTest, WhatNobodyAsksForIsForgotten) {
  const Image image = add_image({plain_tar("a"), plain_tar("b")});
  ReadAhead ahead(store_, options(std::chrono::milliseconds(20)));
  ahead.begin(image[0].blob, finding(image));
  for (const AheadLayer& layer : image) EXPECT_EQ(wait_for(layer.blob), "");
  EXPECT_TRUE(is_staging_empty());
  EXPECT_EQ(take(ahead, image[0].blob), nullptr);
  // Not as long as an image is being unpacked.
  const ReadAhead::Turn turn(ahead, Sha256::of("something else"));
  ended_.clear();
  ahead.begin(image[0].blob, finding(image));
  for (const AheadLayer& layer : image) EXPECT_EQ(wait_for(layer.blob), "");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_NE(take(ahead, image[0].blob), nullptr);
  EXPECT_EQ(count_staging(), 1u);
}

TEST_F(ReadAheadTest, WhatIsWrongIsReadByWhoeverAsksForIt) {
  Image image = add_image({plain_tar("a"), plain_tar("b"), plain_tar("c"), plain_tar("d")});
  remove_file(image[0].blob);
  image[1].diff_id = Sha256::of("something else");
  ++image[2].size_bytes;
  ReadAhead ahead(store_, options());
  ahead.begin(image[0].blob, finding(image));
  EXPECT_EQ(wait_for(image[3].blob), "");
  for (size_t index = 0; index < 3; ++index) {
    EXPECT_NE(wait_for(image[index].blob), "") << index;
    EXPECT_EQ(take(ahead, image[index].blob), nullptr);
  }
  EXPECT_NE(take(ahead, image[3].blob), nullptr);
  // A search that fails is no more than that.
  const Digest blob = Sha256::of("searched for");
  ahead.begin(blob, []() -> std::vector<AheadLayer> { fail(Code::unavailable, "nobody there"); });
  EXPECT_EQ(wait_for(blob), "nobody there");
}

TEST_F(ReadAheadTest, NothingIsReadTwice) {
  const Image image = add_image({plain_tar("a"), plain_tar("b"), plain_tar("c")});
  OneLayer known(store_, std::nullopt, blob(image, 1));
  add_snapshot("known", known, "");
  ReadAhead ahead(store_, options());
  {
    const ReadAhead::Turn turn(ahead, image[0].blob);  // is read by its own call
    ahead.begin(image[0].blob, finding(image));
    EXPECT_EQ(wait_for(image[2].blob), "");
  }
  EXPECT_EQ(take(ahead, image[0].blob), nullptr);
  EXPECT_EQ(take(ahead, image[1].blob), nullptr);  // the store has it
  const std::scoped_lock lock(mutex_);
  EXPECT_EQ(ended_.size(), 1u);
}

// More layers than are kept ready: the next ones are read as the first are taken.
TEST_F(ReadAheadTest, AnyNumberOfLayersComesInOrder) {
  std::vector<std::string> tars;
  for (int number = 0; number < 40; ++number) tars.push_back(plain_tar(fmt::format("{}", number)));
  const Image image = add_image(tars);
  ReadAhead ahead(store_, options());
  ahead.begin(image[0].blob, finding(image));
  for (const AheadLayer& layer : image) {
    EXPECT_EQ(wait_for(layer.blob), "");
    EXPECT_LE(count_staging(), 16u);
    EXPECT_NE(take(ahead, layer.blob), nullptr);
  }
  EXPECT_EQ(count_staging(), 0u);
}

// Many unpack the same at once, and end in the middle.
TEST_F(ReadAheadTest, EndsInTheMiddle) {
  const Image image = add_image({large_tar(), plain_tar("b"), plain_tar("c")});
  for (int round = 0; round < 20; ++round) {
    ReadAhead ahead(store_, options());
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&] {
        for (const AheadLayer& layer : image) {
          ReadAhead::Turn turn(ahead, layer.blob);
          (void)turn.maybe_take([] { return false; });
          ahead.begin(layer.blob, finding(image));
        }
      });
    }
    threads.clear();
  }
  EXPECT_EQ(count_staging(), 0u);
  EXPECT_EQ(count_layers(), 0u);
}

TEST_F(ReadAheadTest, AWaitEndsWhenItsClientGoes) {
  const Image image = add_image({large_tar()});
  std::atomic<bool> is_open = false;
  ReadAhead::Options held = options();
  held.open = [&](const Digest& digest) {
    is_open.wait(false);
    return options().open(digest);
  };
  ReadAhead ahead(store_, held);
  ahead.begin(image[0].blob, finding(image));
  while (count_staging() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  int looks = 0;
  ReadAhead::Turn turn(ahead, image[0].blob);
  EXPECT_EQ(turn.maybe_take([&] { return ++looks == 3; }), nullptr);
  is_open = true;
  is_open.notify_all();
}

}  // namespace
}  // namespace veneer::test
