// Layers that are read before they are asked for: which ones, what comes of them, and what is left
// when nobody asks.
#include "rpc/read_ahead.h"

#include <set>

#include "rpc/image_layers.h"
#include "store/check.h"
#include "tests/suite/rpc_diff.h"

namespace veneer::test {
namespace {

constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";

std::string plain_tar(const std::string& name) {
  LayerTar tar;
  tar.dir("./").file(name, "of " + name);
  return tar.bytes();
}

// Nothing of it can be settled without the layers below: d is implied, f is theirs.
std::string dependent_tar() {
  LayerTar tar;
  tar.whiteout("d/one").file("d/two", "2").hard_link("linked", "f");
  return tar.bytes();
}

class ReadAheadTest : public RpcDiff {
 protected:
  ReadAheadTest() : blobs_(open_or_make_root(path("content/blobs/sha256"), 0700).fd) {
    serve({.space = std::string(kSpace),
           .containerd = "unix://" + path("ctd.sock"),
           .content_dir = path("content")});
  }

  // In the content store, and as a file of it.
  Digest add_content(const std::string& bytes, const Labels& labels = {}) {
    const Digest digest = containerd_.add(kNamespace, bytes, labels);
    if (!exists_at(blobs_.get(), Layout::digest_name(digest)))
      write_file_at(blobs_.get(), Layout::digest_name(digest), bytes, 0600);
    return digest;
  }
  void remove_file(const Digest& digest) {
    remove_tree_at(blobs_.get(), Layout::digest_name(digest));
  }

  struct Image {
    Digest manifest;
    std::vector<Blob> layers;
    std::vector<Digest> diff_ids;
  };
  // With labels as containerd's clients make them. `variant` makes one of other digests.
  Image add_image(const std::vector<std::string>& tars, const std::string& variant = "") {
    Image image;
    Labels labels;
    std::string layers;
    std::string diff_ids;
    for (const std::string& tar : tars) {
      const std::string bytes = compress(tar, Compression::gzip);
      const Blob blob{.digest = add_content(bytes), .media_type = kGzip, .size = bytes.size()};
      const std::string comma = layers.empty() ? "" : ",";
      layers += fmt::format(R"({}{{"mediaType":"{}","digest":"{}","size":{}}})", comma, kGzip,
                            blob.digest.str(), blob.size);
      diff_ids += fmt::format(R"({}"{}")", comma, Sha256::of(tar).str());
      labels[fmt::format("containerd.io/gc.ref.content.l.{}", image.layers.size())] =
          blob.digest.str();
      image.layers.push_back(blob);
      image.diff_ids.push_back(Sha256::of(tar));
    }
    const std::string config = fmt::format(R"({{"author":"{}","architecture":"amd64","os":"linux",)"
                                           R"("rootfs":{{"type":"layers","diff_ids":[{}]}}}})",
                                           variant, diff_ids);
    const std::string manifest =
        fmt::format(R"({{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}",)"
                    R"("digest":"{}","size":{}}},"layers":[{}]}})",
                    kManifestType, kConfigType, add_content(config).str(), config.size(), layers);
    image.manifest = add_content(manifest, labels);
    return image;
  }

  std::vector<std::string> found_above(const Image& image, size_t index) {
    const ContentClient client("unix://" + path("ctd.sock"));
    const std::vector<Digest> below(image.diff_ids.begin(),
                                    image.diff_ids.begin() + static_cast<std::ptrdiff_t>(index));
    std::vector<std::string> found;
    for (const AheadLayer& layer : find_layers_above(
             client, path("content"),
             {.space = kNamespace, .blob = image.layers[index].digest, .below = below}))
      found.push_back(layer.blob.str());
    return found;
  }
  static std::vector<std::string> above(const Image& image, size_t index) {
    std::vector<std::string> names;
    for (size_t next = index + 1; next < image.layers.size(); ++next)
      names.push_back(image.layers[next].digest.str());
    return names;
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
  static std::function<std::vector<AheadLayer>()> finding(const Image& image) {
    std::vector<AheadLayer> layers;
    for (size_t index = 0; index < image.layers.size(); ++index)
      layers.push_back({.blob = image.layers[index].digest,
                        .size_bytes = image.layers[index].size,
                        .diff_id = image.diff_ids[index]});
    return [layers] { return layers; };
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
  // Layers whose index (or tree) lies in the staging directory, settled and synced.
  size_t count_settled() {
    size_t count = 0;
    for (const std::string& name : list_dir(store_.layout().staging()))
      for (const std::string file : {"layer.erofs", "fs"})
        count +=
            exists_at(store_.layout().staging(), RelPath::parse(name + "/0/" + file)) ? 1u : 0u;
    return count;
  }

  UniqueFd blobs_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Digest, std::string> ended_;
};

// --- which layers ----------------------------------------------------------------------------

TEST_F(ReadAheadTest, FindsWhatAnImageHasAboveALayer) {
  const Image image = add_image({plain_tar("a"), plain_tar("b"), plain_tar("c")});
  for (size_t index = 0; index < 3; ++index)
    EXPECT_EQ(found_above(image, index), above(image, index)) << index;
  // The same in another manifest makes no doubt.
  (void)add_image({plain_tar("a"), plain_tar("b"), plain_tar("c")}, "another");
  EXPECT_EQ(found_above(image, 0), above(image, 0));
}

TEST_F(ReadAheadTest, FindsNothingWhereImagesPart) {
  const Image one = add_image({plain_tar("a"), plain_tar("b")});
  const Image other = add_image({plain_tar("a"), plain_tar("b"), plain_tar("c")});
  EXPECT_EQ(found_above(one, 0), std::vector<std::string>());
  EXPECT_EQ(found_above(other, 1), std::vector<std::string>());
  // Over another layer than it lies over there, it is no part of that image.
  Image third = add_image({plain_tar("x"), plain_tar("y"), plain_tar("z")});
  third.diff_ids[0] = Sha256::of("another");
  EXPECT_EQ(found_above(third, 1), std::vector<std::string>());
}

TEST_F(ReadAheadTest, DocumentsAreVerified) {
  const Image image = add_image({plain_tar("a"), plain_tar("b")});
  remove_file(image.manifest);
  EXPECT_EQ(found_above(image, 0), std::vector<std::string>());
  write_file_at(blobs_.get(), Layout::digest_name(image.manifest), "{}", 0600);
  EXPECT_THROW(found_above(image, 0), Error);
}

// --- through the service ---------------------------------------------------------------------

TEST_F(ReadAheadTest, AnImageIsUnpackedFromWhatWasReadAhead) {
  const Image image = add_image({base_tar(), plain_tar("b"), plain_tar("c"), dependent_tar()});
  ASSERT_EQ(unpack(image.layers[0], "0", "").code, StatusCode::OK);
  for (int tries = 0; count_settled() < 2 && tries < 1000; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_EQ(count_settled(), 2u);
  // Nobody reads them again.
  remove_file(image.layers[1].digest);
  remove_file(image.layers[2].digest);
  EXPECT_EQ(count_layers(), 1u);
  for (size_t index = 1; index < 4; ++index) {
    const std::string name = std::to_string(index);
    const DiffAnswer answer = unpack(image.layers[index], name, std::to_string(index - 1));
    ASSERT_EQ(answer.code, StatusCode::OK) << answer.message;
    EXPECT_EQ(answer.digest, image.diff_ids[index].str());
    EXPECT_EQ(count_layers(), index + 1);
  }
  EXPECT_EQ(containerd_.reads(), 0);
  EXPECT_EQ(names("3"), "b c d d/two f linked");
  const ClientMount mounted = mount(snapshots_->view("view", "3", {}));
  EXPECT_EQ(read_file_at(mounted.dir(), "linked", 10), "base");
  EXPECT_EQ(count_staging(), 0u);
  EXPECT_TRUE(check_store(store_, {}).damages.empty());
}

TEST_F(ReadAheadTest, ADamagedLayerIsNoticedInItsTurn) {
  const Image image = add_image({base_tar(), plain_tar("b"), plain_tar("c")});
  const RelPath name = Layout::digest_name(image.layers[1].digest);
  remove_file(image.layers[1].digest);
  write_file_at(blobs_.get(), name, compress(plain_tar("x"), Compression::gzip), 0600);
  ASSERT_EQ(unpack(image.layers[0], "0", "").code, StatusCode::OK);
  const DiffAnswer answer = unpack(image.layers[1], "1", "0");
  EXPECT_EQ(answer.code, StatusCode::DATA_LOSS) << answer.message;
  EXPECT_EQ(count_layers(), 1u);
  // It has been mended, and goes on.
  remove_file(image.layers[1].digest);
  write_file_at(blobs_.get(), name, compress(plain_tar("b"), Compression::gzip), 0600);
  snapshots_->remove("extract 1");
  EXPECT_EQ(unpack(image.layers[1], "1", "0").code, StatusCode::OK);
  EXPECT_EQ(unpack(image.layers[2], "2", "1").code, StatusCode::OK);
  EXPECT_EQ(names("2"), "b c d d/one f");
}

TEST_F(ReadAheadTest, AServerThatEndsLeavesNothing) {
  const Image image = add_image({base_tar(), large_tar(), plain_tar("c")});
  ASSERT_EQ(unpack(image.layers[0], "0", "").code, StatusCode::OK);
  server_.reset();
  EXPECT_EQ(count_staging(), 0u);
  EXPECT_EQ(count_layers(), 1u);
}

// --- by itself -------------------------------------------------------------------------------

TEST_F(ReadAheadTest, ALayerIsPutOverWhatItTurnsOutToLieOver) {
  const Image image = add_image({dependent_tar()});
  const Blob& blob = image.layers[0];
  ASSERT_EQ(unpack(add_blob(base_tar(), kTar), "base", "").code, StatusCode::OK);
  LayerTar other_tar;
  other_tar.dir("./").dir("d", {.mode = 0700}).file("f", "other");
  ASSERT_EQ(unpack(add_blob(other_tar.bytes(), kTar), "other", "").code, StatusCode::OK);
  for (const std::string parent : {"base", "other"}) {
    SCOPED_TRACE(parent);
    serve({.space = std::string(kSpace), .content_dir = path("content")});  // reads nothing ahead
    ASSERT_EQ(unpack(blob, "in turn", parent).code, StatusCode::OK);
    const auto expected = tree("in turn");
    snapshots_->remove("in turn");
    ReadAhead ahead(store_, options());
    ahead.begin(blob.digest, finding(image));
    ASSERT_EQ(wait_for(blob.digest), "");
    const auto layer = take(ahead, blob.digest);
    ASSERT_NE(layer, nullptr);
    EXPECT_EQ(take(ahead, blob.digest), nullptr);
    const auto below = store_.meta().read().maybe_snapshot(kSpace, parent);
    layer->put_over(below->id, false);
    const auto mounts = snapshots_->prepare("extract ahead", parent, {});
    Meta::Transaction transaction = store_.meta().write();
    auto target = transaction.maybe_snapshot(kSpace, "extract ahead");
    target->variant = layer->publish(transaction);
    ASSERT_TRUE(target->variant.has_value());
    transaction.update_snapshot(*target);
    transaction.commit();
    store_.discard_snapshot(target->id);
    snapshots_->commit("ahead", "extract ahead", {});
    EXPECT_EQ(tree("ahead"), expected);
    EXPECT_TRUE(check_store(store_, {}).damages.empty());
    snapshots_->remove("ahead");
    ended_.clear();
  }
}

TEST_F(ReadAheadTest, WhatNobodyAsksForIsForgotten) {
  const Image image = add_image({plain_tar("a"), plain_tar("b")});
  ReadAhead ahead(store_, options(std::chrono::milliseconds(20)));
  ahead.begin(image.layers[0].digest, finding(image));
  for (const Blob& blob : image.layers) EXPECT_EQ(wait_for(blob.digest), "");
  EXPECT_TRUE(is_staging_empty());
  EXPECT_EQ(take(ahead, image.layers[0].digest), nullptr);
  // Not as long as an image is being unpacked.
  const ReadAhead::Turn turn(ahead, Sha256::of("something else"));
  ended_.clear();
  ahead.begin(image.layers[0].digest, finding(image));
  for (const Blob& blob : image.layers) EXPECT_EQ(wait_for(blob.digest), "");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_NE(take(ahead, image.layers[0].digest), nullptr);
  EXPECT_EQ(count_staging(), 1u);
}

TEST_F(ReadAheadTest, WhatIsWrongIsReadByWhoeverAsksForIt) {
  Image image = add_image({plain_tar("a"), plain_tar("b"), plain_tar("c"), plain_tar("d")});
  remove_file(image.layers[0].digest);
  image.diff_ids[1] = Sha256::of("something else");
  ++image.layers[2].size;
  ReadAhead ahead(store_, options());
  ahead.begin(image.layers[0].digest, finding(image));
  EXPECT_EQ(wait_for(image.layers[3].digest), "");
  for (size_t index = 0; index < 3; ++index) {
    EXPECT_NE(wait_for(image.layers[index].digest), "") << index;
    EXPECT_EQ(take(ahead, image.layers[index].digest), nullptr);
  }
  EXPECT_NE(take(ahead, image.layers[3].digest), nullptr);
  // A search that fails is no more than that.
  const Digest blob = Sha256::of("searched for");
  ahead.begin(blob, []() -> std::vector<AheadLayer> { fail(Code::unavailable, "nobody there"); });
  EXPECT_EQ(wait_for(blob), "nobody there");
}

TEST_F(ReadAheadTest, NothingIsReadTwice) {
  const Image image = add_image({plain_tar("a"), plain_tar("b"), plain_tar("c")});
  ASSERT_EQ(unpack(image.layers[1], "b", "").code, StatusCode::OK);
  ReadAhead ahead(store_, options());
  {
    const ReadAhead::Turn turn(ahead, image.layers[0].digest);  // is read by its own call
    ahead.begin(image.layers[0].digest, finding(image));
    EXPECT_EQ(wait_for(image.layers[2].digest), "");
  }
  EXPECT_EQ(take(ahead, image.layers[0].digest), nullptr);
  EXPECT_EQ(take(ahead, image.layers[1].digest), nullptr);  // the store has it
  const std::scoped_lock lock(mutex_);
  EXPECT_EQ(ended_.size(), 1u);
}

// More layers than are kept ready: the next ones are read as the first are taken.
TEST_F(ReadAheadTest, AnyNumberOfLayersComesInOrder) {
  std::vector<std::string> tars;
  for (int number = 0; number < 40; ++number) tars.push_back(plain_tar(fmt::format("{}", number)));
  const Image image = add_image(tars);
  ReadAhead ahead(store_, options());
  ahead.begin(image.layers[0].digest, finding(image));
  for (const Blob& blob : image.layers) {
    EXPECT_EQ(wait_for(blob.digest), "");
    EXPECT_LE(count_staging(), 16u);
    EXPECT_NE(take(ahead, blob.digest), nullptr);
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
        for (const Blob& blob : image.layers) {
          ReadAhead::Turn turn(ahead, blob.digest);
          (void)turn.maybe_take([] { return false; });
          ahead.begin(blob.digest, finding(image));
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
  ahead.begin(image.layers[0].digest, finding(image));
  while (count_staging() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  int looks = 0;
  ReadAhead::Turn turn(ahead, image.layers[0].digest);
  EXPECT_EQ(turn.maybe_take([&] { return ++looks == 3; }), nullptr);
  is_open = true;
  is_open.notify_all();
}

}  // namespace
}  // namespace veneer::test
