// The differ reads the layers of an image ahead: which ones, and what comes of them. What a
// ReadAhead does by itself is tested in read_ahead_test.cc.
#include <thread>

#include "rpc/image_layers.h"
#include "store/check.h"
#include "tests/suite/rpc_diff.h"

namespace veneer::test {
namespace {

constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";

class RpcReadAhead : public RpcDiff {
 protected:
  RpcReadAhead() : blobs_(open_or_make_root(path("content/blobs/sha256"), 0700).fd) {
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
};

// --- which layers ----------------------------------------------------------------------------

TEST_F(RpcReadAhead, FindsWhatAnImageHasAboveALayer) {
  const Image image = add_image({plain_tar("a"), plain_tar("b"), plain_tar("c")});
  for (size_t index = 0; index < 3; ++index)
    EXPECT_EQ(found_above(image, index), above(image, index)) << index;
  // The same in another manifest makes no doubt.
  (void)add_image({plain_tar("a"), plain_tar("b"), plain_tar("c")}, "another");
  EXPECT_EQ(found_above(image, 0), above(image, 0));
}

TEST_F(RpcReadAhead, FindsNothingWhereImagesPart) {
  const Image one = add_image({plain_tar("a"), plain_tar("b")});
  const Image other = add_image({plain_tar("a"), plain_tar("b"), plain_tar("c")});
  EXPECT_EQ(found_above(one, 0), std::vector<std::string>());
  EXPECT_EQ(found_above(other, 1), std::vector<std::string>());
  // Over another layer than it lies over there, it is no part of that image.
  Image third = add_image({plain_tar("x"), plain_tar("y"), plain_tar("z")});
  third.diff_ids[0] = Sha256::of("another");
  EXPECT_EQ(found_above(third, 1), std::vector<std::string>());
}

TEST_F(RpcReadAhead, DocumentsAreVerified) {
  const Image image = add_image({plain_tar("a"), plain_tar("b")});
  remove_file(image.manifest);
  EXPECT_EQ(found_above(image, 0), std::vector<std::string>());
  write_file_at(blobs_.get(), Layout::digest_name(image.manifest), "{}", 0600);
  EXPECT_THROW(found_above(image, 0), Error);
}

// --- through the service ---------------------------------------------------------------------

TEST_F(RpcReadAhead, AnImageIsUnpackedFromWhatWasReadAhead) {
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

TEST_F(RpcReadAhead, ADamagedLayerIsNoticedInItsTurn) {
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

TEST_F(RpcReadAhead, AServerThatEndsLeavesNothing) {
  const Image image = add_image({base_tar(), large_tar(), plain_tar("c")});
  ASSERT_EQ(unpack(image.layers[0], "0", "").code, StatusCode::OK);
  server_.reset();
  EXPECT_EQ(count_staging(), 0u);
  EXPECT_EQ(count_layers(), 1u);
}

}  // namespace
}  // namespace veneer::test
