#include "image/archive.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "base/limits.h"
#include "image/test_image.h"
#include "stream/compress.h"

namespace veneer {
namespace {

using tar::EntryType;
using test::expect_error;
using test::File;
using test::Files;

constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* kIndexType = "application/vnd.oci.image.index.v1+json";
constexpr const char* kConfigType = "application/vnd.oci.image.config.v1+json";
constexpr const char* kLayerType = "application/vnd.oci.image.layer.v1.tar";

std::string quoted_list(const std::vector<std::string>& texts) {
  std::string list;
  for (const std::string& text : texts) list += (list.empty() ? "\"" : ",\"") + text + "\"";
  return "[" + list + "]";
}

std::string joined(const std::vector<std::string>& texts) {
  std::string list;
  for (const std::string& text : texts) list += (list.empty() ? "" : ",") + text;
  return list;
}

std::string config_of(const std::vector<std::string>& layers, std::string_view arch = "amd64") {
  std::vector<std::string> diff_ids;
  for (const std::string& layer : layers) diff_ids.push_back(Sha256::of(layer).str());
  return fmt::format(
      R"({{"os":"linux","architecture":"{}","rootfs":{{"type":"layers","diff_ids":{}}}}})", arch,
      quoted_list(diff_ids));
}

std::string blob_name(std::string_view content) {
  return "blobs/sha256/" + Sha256::of(content).hex();
}

// An OCI layout under construction.
struct Layout {
  Files files = {{"oci-layout", R"({"imageLayoutVersion":"1.0.0"})"}};
  std::vector<std::string> descriptors;

  // Puts a blob and returns its descriptor.
  std::string blob(std::string_view type, const std::string& content, std::string_view more = "") {
    files.push_back({blob_name(content), content});
    return fmt::format(R"({{"mediaType":"{}","digest":"{}","size":{}{}}})", type,
                       Sha256::of(content).str(), content.size(), more);
  }
  // `stored` are the layers as blobs, of which `layers` are the plain bytes.
  std::string image(const std::vector<std::string>& layers, std::string_view more = "",
                    std::string_view arch = "amd64", std::vector<std::string> stored = {}) {
    if (stored.empty()) stored = layers;
    std::vector<std::string> blobs;
    for (const std::string& layer : stored) blobs.push_back(blob(kLayerType, layer));
    const std::string config = blob(kConfigType, config_of(layers, arch));
    return blob(
        kManifestType,
        fmt::format(R"({{"schemaVersion":2,"config":{},"layers":[{}]}})", config, joined(blobs)),
        more);
  }
  static std::string index_of(const std::vector<std::string>& manifests) {
    return fmt::format(R"({{"schemaVersion":2,"manifests":[{}]}})", joined(manifests));
  }
  Files done(const std::vector<std::string>& manifests) const {
    Files all = files;
    all.push_back({"index.json", index_of(manifests)});
    return all;
  }
};

std::string named(std::string_view name) {
  return fmt::format(R"(,"annotations":{{"io.containerd.image.name":"{}"}})", name);
}
std::string for_platform(std::string_view arch) {
  return fmt::format(R"(,"platform":{{"os":"linux","architecture":"{}"}})", arch);
}

Files docker_files(const std::vector<std::string>& layers) {
  Files files;
  std::vector<std::string> names;
  for (const std::string& layer : layers) {
    names.push_back(Sha256::of(layer).hex() + "/layer.tar");
    files.push_back({names.back(), layer});
  }
  const std::string config = config_of(layers);
  const std::string config_name = Sha256::of(config).hex() + ".json";
  files.push_back({config_name, config});
  files.push_back(
      {"manifest.json", fmt::format(R"([{{"Config":"{}","RepoTags":["a:1"],"Layers":{}}}])",
                                    config_name, quoted_list(names))});
  return files;
}

File& file_named(Files& files, std::string_view name) {
  for (File& file : files)
    if (file.name.find(name) != std::string::npos) return file;
  throw std::logic_error("no such file");
}

class Archive : public testing::Test {
 protected:
  std::unique_ptr<ImageArchive> open(const std::string& path,
                                     const OpenImageOptions& options = {}) {
    return open_image(path, options, scratch_.path());
  }
  std::unique_ptr<ImageArchive> open_tar(const Files& files, const OpenImageOptions& options = {}) {
    return open(scratch_.write_file(test::tar_of(files)), options);
  }
  void expect_layers(const ImageArchive& image, const std::vector<std::string>& layers) {
    ASSERT_EQ(image.manifest().layers.size(), layers.size());
    for (size_t i = 0; i < layers.size(); ++i) {
      EXPECT_EQ(image.manifest().layers[i].diff_id, Sha256::of(layers[i]));
      EXPECT_EQ(image.manifest().layers[i].blob_size, layers[i].size());
      EXPECT_EQ(read_all(*image.open_layer(i), 1 << 24, "layer"), layers[i]);
    }
  }

  test::Scratch scratch_;
  const std::vector<std::string> layers_ = {"lower", std::string(600000, 'u'), ""};
};

TEST_F(Archive, OciLayoutAsDirectoryTarAndCompressedTar) {
  Layout layout;
  const std::string image = layout.image(layers_, named("docker.io/library/a:1"));
  const Files files = layout.done({image});
  const std::string tar = test::tar_of(files);
  for (const std::string& path :
       {scratch_.write_directory(files), std::string(), scratch_.path() + "/gzip"}) {
    if (path.empty()) {
      scratch_.write_file(tar);
    } else if (path.ends_with("gzip")) {
      write_file_at(scratch_.dir(), "gzip", test::gzip_of(tar), 0600);
    }
    const auto opened = open(path.empty() ? scratch_.path() + "/image" : path);
    expect_layers(*opened, layers_);
    const ImageManifest& manifest = opened->manifest();
    EXPECT_EQ(manifest.names, std::vector<std::string>{"docker.io/library/a:1"});
    EXPECT_EQ(manifest.config, config_of(layers_));
    EXPECT_EQ(manifest.config_digest, Sha256::of(config_of(layers_)));
    EXPECT_EQ(manifest.layers[0].media_type, kLayerType);
    EXPECT_EQ(manifest.layers[0].blob_digest, Sha256::of(layers_[0]));
  }
  EXPECT_EQ(list_dir(scratch_.dir()), (std::vector<std::string>{"gzip", "image"}));
}

TEST_F(Archive, DockerArchiveAsTarAndCompressedTar) {
  const std::string tar = test::tar_of(docker_files(layers_));
  for (const std::string& content : {tar, test::gzip_of(tar)}) {
    const auto opened = open(scratch_.write_file(content));
    expect_layers(*opened, layers_);
    const ImageManifest& manifest = opened->manifest();
    EXPECT_EQ(manifest.names, std::vector<std::string>{"a:1"});
    EXPECT_EQ(manifest.config_digest, Sha256::of(config_of(layers_)));
    EXPECT_FALSE(manifest.layers[0].blob_digest);
    EXPECT_EQ(manifest.layers[0].media_type, "");
  }
}

TEST_F(Archive, APipeIsReadToItsEnd) {
  const std::string path = scratch_.path() + "/pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const std::string tar = test::tar_of(docker_files(layers_)) + std::string(300000, '\0');
  size_t left = tar.size();
  std::thread writer([&] {
    const UniqueFd fd = open_root(path, O_WRONLY);
    for (; left > 0; left -= std::min<size_t>(left, 4096))
      write_all(
          fd.get(),
          std::as_bytes(std::span(tar)).subspan(tar.size() - left, std::min<size_t>(left, 4096)));
  });
  const auto opened = open(path);
  writer.join();
  EXPECT_EQ(left, 0u);
  expect_layers(*opened, layers_);
}

TEST_F(Archive, LayersStayCompressed) {
  const std::string stored = test::gzip_of("plain");
  Layout layout;
  const std::string image = layout.image({"plain"}, "", "amd64", {stored});
  const auto opened = open_tar(layout.done({image}));
  EXPECT_EQ(opened->manifest().layers[0].diff_id, Sha256::of("plain"));
  EXPECT_EQ(opened->manifest().layers[0].blob_digest, Sha256::of(stored));
  EXPECT_EQ(read_all(*opened->open_layer(0), 1000, "layer"), stored);
}

TEST_F(Archive, ImagesWithoutLayersAreLegal) {
  EXPECT_TRUE(open_tar(docker_files({}))->manifest().layers.empty());
  Layout layout;
  const std::string image = layout.image({});
  EXPECT_TRUE(open_tar(layout.done({image}))->manifest().layers.empty());
}

TEST_F(Archive, TheLayoutGoesBeforeDockersManifest) {
  Layout layout;
  const std::string image = layout.image(layers_, named("docker.io/library/a:1"));
  Files files = layout.done({image});
  for (const File& file : docker_files(layers_)) files.push_back(file);
  EXPECT_TRUE(open_tar(files)->manifest().layers[0].blob_digest);
}

TEST_F(Archive, DockerLayersMayBeLinks) {
  Files files = docker_files({"one", "one "});
  const std::string target = "../" + file_named(files, Sha256::of("one").hex()).name;
  File& second = file_named(files, Sha256::of("one ").hex());
  second = {second.name, "", EntryType::symlink, target};
  const auto opened = open_tar(files);
  EXPECT_EQ(read_all(*opened->open_layer(1), 100, "layer"), "one");

  second.target = "../../etc/passwd";
  expect_error(Code::corrupt, {second.name, "outside"}, [&] { open_tar(files); });
  File& config = file_named(files, ".json");
  const File real = {"real.json", config.content};
  config = {config.name, "", EntryType::symlink, real.name};
  files.push_back(real);
  expect_error(Code::corrupt, {".json", "link"}, [&] { open_tar(files); });
}

TEST_F(Archive, DockerPathsStayInTheArchive) {
  for (const char* path : {"/etc/passwd", "../x", "a/../../x"}) {
    Files files = docker_files({"one"});
    file_named(files, "manifest.json").content =
        fmt::format(R"([{{"Config":"{}","Layers":["{}"]}}])",
                    Sha256::of(config_of({"one"})).hex() + ".json", path);
    expect_error(Code::corrupt, {"manifest.json", path, "leads out"}, [&] { open_tar(files); });
  }
}

TEST_F(Archive, DockersConfigNamesVary) {
  const std::string config = config_of({"one"});
  const std::string hex = Sha256::of(config).hex();
  for (const std::string& name :
       {hex + ".json", "sha256:" + hex, "blobs/sha256/" + hex, std::string("any.json")}) {
    Files files = {{"layer", "one"}, {name, config}};
    files.push_back(
        {"manifest.json", fmt::format(R"([{{"Config":"{}","Layers":["./layer"]}}])", name)});
    expect_layers(*open_tar(files), {"one"});
    if (name == "any.json") continue;
    files[1].content += " ";
    expect_error(Code::corrupt, {hex, "has the digest"}, [&] { open_tar(files); });
  }
}

TEST_F(Archive, DockerImagesAreChosenByName) {
  Files files;
  std::vector<std::string> entries;
  const auto add = [&](const std::string& layer, const std::vector<std::string>& names) {
    const std::string config = config_of({layer});
    const std::string name = Sha256::of(config).hex() + ".json";
    files.push_back({layer, layer});
    files.push_back({name, config});
    entries.push_back(fmt::format(R"({{"Config":"{}","RepoTags":{},"Layers":["{}"]}})", name,
                                  quoted_list(names), layer));
    return name;
  };
  add("one", {"a:1", "a:latest"});
  add("one", {"also:1"});
  const std::string unnamed = add("two", {});
  add("three", {"c:3"});
  files.push_back({"manifest.json", "[" + joined(entries) + "]"});
  const auto choose = [&](const char* name) {
    return open_tar(files, {.name = name, .platform = {}})->manifest();
  };
  EXPECT_EQ(choose("a").names, (std::vector<std::string>{"a:1", "a:latest", "also:1"}));
  EXPECT_EQ(choose("docker.io/library/c:3").layers[0].diff_id, Sha256::of("three"));
  EXPECT_EQ(choose(unnamed.c_str()).layers[0].diff_id, Sha256::of("two"));
  expect_error(Code::invalid_argument,
               {"/image: holds 3 images: a:1, a:latest, also:1, " + unnamed + ", c:3; choose one"},
               [&] { open_tar(files); });
  expect_error(Code::not_found, {"holds no image b:2; it has a:1, "}, [&] { choose("b:2"); });
}

TEST_F(Archive, OciImagesAreChosenByName) {
  Layout layout;
  const std::string first = layout.image({"one"}, named("docker.io/library/a:1"));
  const std::string again = layout.image({"one"}, named("docker.io/library/a:2"));
  const std::string other = layout.image({"two"}, named("example.com/b\\nc:1"));
  const Files files = layout.done({first, again, other});
  const auto choose = [&](const std::string& name) {
    return open_tar(files, {.name = name, .platform = {}})->manifest();
  };
  EXPECT_EQ(choose("a:2").names,
            (std::vector<std::string>{"docker.io/library/a:1", "docker.io/library/a:2"}));
  EXPECT_EQ(choose("example.com/b\nc:1").layers[0].diff_id, Sha256::of("two"));
  const size_t at = other.find("sha256:");
  EXPECT_EQ(choose(other.substr(at, 71)).layers[0].diff_id, Sha256::of("two"));
  expect_error(Code::invalid_argument,
               {"2 images", "docker.io/library/a:1", "\"example.com/b\\nc:1\"", "--name"},
               [&] { open_tar(files); });
  expect_error(Code::not_found, {"it has"}, [&] { choose("a"); });
  expect_error(Code::not_found, {"holds no image"}, [&] { open_tar(Layout().done({})); });
}

TEST_F(Archive, PlatformsAreChosenInNestedIndexes) {
  Layout layout;
  const std::string attestation =
      layout.image({"attestation"}, R"(,"platform":{"os":"unknown","architecture":"unknown"})");
  const std::string amd = layout.image({"amd"}, for_platform("amd64"), "amd64");
  const std::string arm = layout.image({"arm"}, for_platform("arm64"), "arm64");
  const std::string index =
      layout.blob(kIndexType, Layout::index_of({attestation, arm, amd}), named("a:1"));
  // The second is what an index.json that is itself the list looks like.
  for (const Files& files : {layout.done({index}), layout.done({attestation, arm, amd})}) {
    const auto chosen = [&](const char* platform) {
      return open_tar(files, {.name = {}, .platform = platform})->manifest().layers[0].diff_id;
    };
    EXPECT_EQ(chosen("linux/amd64"), Sha256::of("amd"));
    EXPECT_EQ(chosen("linux/arm64/v8"), Sha256::of("arm"));
    expect_error(Code::not_found, {"no image for linux/s390x; there is linux/arm64, linux/amd64"},
                 [&] { chosen("linux/s390x"); });
    expect_error(Code::invalid_argument, {"platform"}, [&] { chosen("linux"); });
#ifdef __x86_64__
    EXPECT_EQ(open_tar(files)->manifest().layers[0].diff_id, Sha256::of("amd"));
#endif
  }
}

TEST_F(Archive, ASoleImageIsTakenForAnyPlatformUnlessOneIsAskedFor) {
  Layout layout;
  const std::string said = layout.image({"x"}, for_platform("s390x"), "s390x");
  const std::string silent = layout.image({"x"}, "", "s390x");
  for (const std::string& image : {said, silent}) {
    EXPECT_NO_THROW(open_tar(layout.done({image})));
    EXPECT_NO_THROW(open_tar(layout.done({image}), {.name = {}, .platform = "linux/s390x"}));
    expect_error(Code::not_found, {"no image for linux/riscv64; there is linux/s390x"}, [&] {
      open_tar(layout.done({image}), {.name = {}, .platform = "linux/riscv64"});
    });
  }
  expect_error(Code::not_found, {"there is linux/amd64"},
               [&] { open_tar(docker_files({"x"}), {.name = {}, .platform = "linux/riscv64"}); });
}

TEST_F(Archive, IndexesNestToALimit) {
  Layout layout;
  std::string inner = layout.image({"x"});
  for (size_t depth = 0; depth <= limits::kIndexDepth; ++depth) {
    EXPECT_NO_THROW(open_tar(layout.done({inner}))) << depth;
    inner = layout.blob(kIndexType, Layout::index_of({inner}));
  }
  expect_error(Code::resource_exhausted, {"nested"}, [&] { open_tar(layout.done({inner})); });
}

// Indexes that each refer twice to the next one are read once each.
TEST_F(Archive, WhatIsMetAgainIsNotReadAgain) {
  Layout layout;
  std::string inner = layout.image({"x"});
  for (size_t depth = 0; depth < limits::kIndexDepth; ++depth)
    inner = layout.blob(kIndexType, Layout::index_of(std::vector<std::string>(100, inner)));
  expect_layers(*open_tar(layout.done({inner})), {"x"});
}

TEST_F(Archive, EveryBlobMustBeThereWithItsSizeAndDigest) {
  Layout layout;
  const std::string image = layout.image({"one"}, for_platform("amd64"));
  const std::string index = layout.blob(kIndexType, Layout::index_of({image}));
  const Files files = layout.done({index});
  for (const File& file : files) {
    if (!file.name.starts_with("blobs/")) continue;
    Files damaged = files;
    File& blob = file_named(damaged, file.name);
    blob.content += " ";
    expect_error(Code::corrupt, {file.name, "announced"}, [&] { open_tar(damaged); });
    blob = {"elsewhere", ""};
    expect_error(Code::corrupt, {file.name, "missing"}, [&] { open_tar(damaged); });
    if (file.content == "one") continue;  // whose digest is for the reader of the layer
    damaged = files;
    file_named(damaged, file.name).content.back() = ' ';
    expect_error(Code::corrupt, {file.name, "has the digest"}, [&] { open_tar(damaged); });
  }
}

TEST_F(Archive, LayersAndDiffIdsMustBeEqualInNumber) {
  Layout layout;
  const std::string image = layout.image({"one", "two"}, "", "amd64", {"one"});
  expect_error(Code::corrupt, {"2 diff_ids for 1 layers"}, [&] { open_tar(layout.done({image})); });
  Files files = docker_files({"one"});
  std::string& manifest = file_named(files, "manifest.json").content;
  manifest.replace(manifest.find("\"Layers\":"), 9, "\"Layers\":[],\"Other\":");
  expect_error(Code::corrupt, {"1 diff_ids for 0 layers"}, [&] { open_tar(files); });
}

TEST_F(Archive, ErrorsNameTheDocument) {
  Layout layout;
  Files files = layout.done({layout.image({"one"})});
  file_named(files, "index.json").content = "{";
  expect_error(Code::corrupt, {"/image: index.json: not valid JSON"}, [&] { open_tar(files); });
  file_named(files, "oci-layout").content = R"({"imageLayoutVersion":"0.9"})";
  expect_error(Code::unsupported, {"oci-layout: image layout version 0.9"},
               [&] { open_tar(files); });
  const std::string broken = layout.blob(kManifestType, R"({"schemaVersion":2,"layers":[]})");
  expect_error(Code::corrupt, {"blobs/sha256/", "\"config\" is missing"},
               [&] { open_tar(layout.done({broken})); });
}

TEST_F(Archive, EveryPrefixOfATarIsRefused) {
  const std::string tar = test::tar_of(docker_files({"one", std::string(2000, 'x')}));
  // What follows the last member's data is padding and the end blocks.
  const size_t end = tar.find_last_not_of('\0') + 1;
  for (size_t block = 0; block < end; block += 512) {
    for (const size_t more : {0uz, 1uz, 511uz}) {
      if (block + more >= end) continue;
      const std::string path = scratch_.write_file(tar.substr(0, block + more));
      EXPECT_THROW(open(path), Error) << block + more;
    }
  }
}

TEST_F(Archive, WhatIsNoImageIsRefused) {
  expect_error(Code::unsupported, {"neither"}, [&] { open_tar({{"etc/passwd", "x"}}); });
  expect_error(Code::unsupported, {"neither"}, [&] { open(scratch_.write_file("")); });
  expect_error(Code::unsupported, {"neither"}, [&] { open(scratch_.path()); });
  expect_error(Code::corrupt, {"/image: "},
               [&] { open(scratch_.write_file(std::string(10000, 'x'))); });
  expect_error(Code::not_found, {"absent: no such file"}, [&] { open("/var/tmp/absent"); });
}

TEST_F(Archive, LayersAreReadByThreadsAtOnce) {
  const std::vector<std::string> layers = {std::string(2'000'000, 'a'),
                                           std::string(2'000'001, 'b')};
  const auto opened = open_tar(docker_files(layers));
  std::vector<Digest> digests(layers.size());
  {
    std::vector<std::jthread> readers;
    for (size_t i = 0; i < layers.size(); ++i)
      readers.emplace_back([&, i] {
        const auto layer = opened->open_layer(i);
        HashingSource hashed(*layer);
        drain(hashed);
        digests[i] = hashed.digest();
      });
  }
  for (size_t i = 0; i < layers.size(); ++i) EXPECT_EQ(digests[i], Sha256::of(layers[i]));
}

}  // namespace
}  // namespace veneer
