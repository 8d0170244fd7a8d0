#include "bin/load.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>

#include "base/error.h"

namespace veneer {
namespace {

Bytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// Layers that are plain text, which is what decompression makes of anything that is not compressed.
class FakeImage : public ImageArchive {
 public:
  explicit FakeImage(std::vector<std::string> blobs) : blobs_(std::move(blobs)) {
    for (const std::string& blob : blobs_) {
      manifest_.layers.push_back({.diff_id = Sha256::of(blob),
                                  .blob_digest = Sha256::of(blob),
                                  .blob_size = blob.size(),
                                  .media_type = ""});
    }
  }
  const ImageManifest& manifest() const override { return manifest_; }
  std::unique_ptr<Source> open_layer(size_t index) const override {
    return std::make_unique<MemorySource>(bytes_of(blobs_[index]), 3);
  }
  ImageLayer& layer(size_t index) { return manifest_.layers[index]; }

 private:
  std::vector<std::string> blobs_;
  ImageManifest manifest_;
};

// Keeps what add_layer() read to the end; the calls of the interface that load needs no more of
// are not there.
class FakeDriver : public Driver {
 public:
  struct Layer {
    std::string parent;
    std::string content;
  };

  std::string_view name() const override { return "fake"; }
  bool exists(std::string_view id) const override {
    const std::lock_guard lock(mutex_);
    return layers.contains(std::string(id));
  }
  uint64_t add_layer(std::string_view id, std::string_view parent, Source& tar) override {
    StringSink content;
    copy_all(tar, content);
    if (lost_race) fail(Code::already_exists, "layer {} exists", id);
    layers[std::string(id)] = {std::string(parent), content.text()};
    return content.text().size();
  }
  std::unique_ptr<NewLayer> make_layer(std::string_view id, std::string_view parent,
                                       const NewLayer* below, Source& tar) override {
    if (!commits_apart) return Driver::make_layer(id, parent, below, tar);
    StringSink content;
    copy_all(tar, content);
    return std::make_unique<Made>(*this, std::string(id),
                                  Layer{std::string(parent), content.text()});
  }

  std::vector<std::pair<std::string, std::string>> status() const override { return {}; }
  std::map<std::string, std::string> metadata(std::string_view) const override { unused(); }
  std::vector<std::string> list() const override { unused(); }
  void create(std::string_view, std::string_view, const CreateOptions&) override { unused(); }
  void create_read_write(std::string_view, std::string_view, const CreateOptions&) override {
    unused();
  }
  void remove(std::string_view) override { unused(); }
  std::string get(std::string_view, std::string_view) override { unused(); }
  void put(std::string_view) override { unused(); }
  void cleanup() override { unused(); }
  uint64_t apply_diff(std::string_view, std::string_view, Source&) override { unused(); }
  void diff(std::string_view, std::string_view, Sink&) override { unused(); }
  std::vector<Change> changes(std::string_view, std::string_view) override { unused(); }
  uint64_t diff_size(std::string_view, std::string_view) override { unused(); }

  std::map<std::string, Layer> layers;
  bool lost_race = false;
  bool commits_apart = false;
  std::optional<Code> commit_error;

 private:
  class Made : public NewLayer {
   public:
    Made(FakeDriver& driver, std::string id, Layer layer)
        : driver_(driver), id_(std::move(id)), layer_(std::move(layer)) {}
    uint64_t size_bytes() const override { return layer_.content.size(); }
    void commit() override {
      if (driver_.commit_error) fail(*driver_.commit_error, "not committed");
      EXPECT_TRUE(layer_.parent.empty() || driver_.exists(layer_.parent));
      const std::lock_guard lock(driver_.mutex_);
      driver_.layers[id_] = layer_;
    }

   private:
    FakeDriver& driver_;
    std::string id_;
    Layer layer_;
  };

  [[noreturn]] static void unused() {
    throw std::logic_error("load called what it has no use for");
  }

  mutable std::mutex mutex_;  // over layers, while load_image() runs
};

class LoadTest : public testing::Test {
 protected:
  // The message of the corrupt error that loading throws.
  std::string failure_of(const FakeImage& image) {
    try {
      load_image(image, driver_, progress_);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::corrupt);
      return error.message();
    }
    return "none";
  }

  FakeImage image_{{"lower layer", "", "upper layer"}};
  FakeDriver driver_;
  Progress progress_{-1, {}};
};

TEST_F(LoadTest, AddsEveryLayerUnderItsChainIdOverTheOneBefore) {
  const std::vector<LoadedLayer> loaded = load_image(image_, driver_, progress_);
  ASSERT_EQ(loaded.size(), 3U);
  std::optional<Digest> chain;
  std::string parent;
  for (size_t i = 0; i < loaded.size(); ++i) {
    chain = chain_id(chain, image_.layer(i).diff_id);
    EXPECT_EQ(loaded[i].id, chain->hex());
    EXPECT_EQ(loaded[i].diff_id, image_.layer(i).diff_id);
    EXPECT_FALSE(loaded[i].existed());
    EXPECT_EQ(loaded[i].size_bytes, image_.layer(i).blob_size);
    EXPECT_EQ(driver_.layers.at(loaded[i].id).parent, parent);
    parent = loaded[i].id;
  }
  EXPECT_EQ(driver_.layers.at(loaded[2].id).content, "upper layer");
}

TEST_F(LoadTest, LeavesLayersThatAreThereAsTheyAre) {
  load_image(image_, driver_, progress_);
  for (auto& [id, layer] : driver_.layers) layer.content = "untouched";
  const std::vector<LoadedLayer> loaded = load_image(image_, driver_, progress_);
  EXPECT_TRUE(std::ranges::all_of(loaded, &LoadedLayer::existed));
  for (const auto& [id, layer] : driver_.layers) EXPECT_EQ(layer.content, "untouched");
}

TEST_F(LoadTest, ALayerThatAnotherProcessWasFasterWithExists) {
  driver_.lost_race = true;
  EXPECT_TRUE(load_image(image_, driver_, progress_)[0].existed());
}

TEST_F(LoadTest, LayersAreCommittedInOrder) {
  driver_.commits_apart = true;
  const std::vector<LoadedLayer> loaded = load_image(image_, driver_, progress_);
  EXPECT_EQ(driver_.layers.size(), 3U);
  for (size_t i = 0; i < loaded.size(); ++i)
    EXPECT_EQ(loaded[i].size_bytes, image_.layer(i).blob_size);
}

TEST_F(LoadTest, AnotherProcessMayBeFasterUntilTheCommit) {
  driver_.commits_apart = true;
  driver_.commit_error = Code::already_exists;
  EXPECT_TRUE(std::ranges::all_of(load_image(image_, driver_, progress_), &LoadedLayer::existed));
}

TEST_F(LoadTest, AFailedCommitNamesItsLayerAndNoOther) {
  driver_.commits_apart = true;
  driver_.commit_error = Code::corrupt;
  const std::string hex = image_.layer(0).diff_id.hex();
  EXPECT_EQ(failure_of(image_), "layer 1 (sha256:" + hex.substr(0, 12) + "): not committed");
  EXPECT_TRUE(driver_.layers.empty());
}

TEST_F(LoadTest, AWrongLayerLeavesThoseThatAreBeingCommitted) {
  driver_.commits_apart = true;
  image_.layer(1).diff_id = Sha256::of("other");
  EXPECT_TRUE(failure_of(image_).starts_with("layer 2 (sha256:")) << failure_of(image_);
  EXPECT_EQ(driver_.layers.size(), 1U);
}

TEST_F(LoadTest, AWrongBlobDigestNamesTheLayerAndKeepsThoseBelow) {
  image_.layer(2).blob_digest = Sha256::of("other");
  const std::string hex = image_.layer(2).diff_id.hex();
  EXPECT_EQ(failure_of(image_), "layer 3 (sha256:" + hex.substr(0, 12) + "): blob: the digest is " +
                                    Sha256::of("upper layer").str() + ", not " +
                                    Sha256::of("other").str());
  EXPECT_EQ(driver_.layers.size(), 2U);
}

TEST_F(LoadTest, AWrongDiffIdLeavesNothing) {
  image_.layer(0).diff_id = Sha256::of("other");
  EXPECT_TRUE(failure_of(image_).starts_with("layer 1 (sha256:")) << failure_of(image_);
  EXPECT_TRUE(driver_.layers.empty());
}

TEST_F(LoadTest, AWrongSizeIsCorruptEvenIfTheDigestIsRight) {
  image_.layer(0).blob_size += 1;
  EXPECT_NE(failure_of(image_).find("has 11 bytes, not 12"), std::string::npos);
  image_.layer(0).blob_size -= 2;
  EXPECT_NE(failure_of(image_).find("bytes, not 10"), std::string::npos);
  EXPECT_TRUE(driver_.layers.empty());
}

TEST_F(LoadTest, WithoutABlobDigestTheDiffIdStillCounts) {
  image_.layer(0).blob_digest.reset();
  EXPECT_EQ(load_image(image_, driver_, progress_).size(), 3U);
  driver_.layers.clear();
  image_.layer(0).diff_id = Sha256::of("other");
  EXPECT_NE(failure_of(image_).find("the digest is"), std::string::npos);
}

TEST_F(LoadTest, AnImageWithoutLayersIsRefused) {
  const FakeImage empty({});
  EXPECT_THROW(load_image(empty, driver_, progress_), Error);
}

}  // namespace
}  // namespace veneer
