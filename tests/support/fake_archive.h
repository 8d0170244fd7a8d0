// An image file that is none: layers and a config in memory.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "image/archive.h"
#include "image/json.h"
#include "stream/compressing_sink.h"

namespace veneer::test {

inline std::string pack(const std::string& text, Compression compression) {
  StringSink out;
  CompressingSink sink(compression, out);
  sink.write(std::as_bytes(std::span(text)));
  sink.finish();
  return out.text();
}

// An image in memory, with the layers' tars as given.
class FakeArchive final : public ImageArchive {
 public:
  explicit FakeArchive(std::vector<std::string> tars, std::vector<std::string> names = {},
                       Compression compression = Compression::none) {
    JsonTree config;
    config.set({"architecture"}, "amd64");
    config.set({"os"}, "linux");
    config.set({"created"}, "2024-01-02T03:04:05.6Z");
    config.set({"config", "Env"}, std::vector<std::string>{"A=1"});
    config.set({"x.unknown"}, uint64_t{7});
    config.set({"rootfs", "type"}, "layers");
    config.set({"rootfs", "diff_ids"}, JsonTree::array());
    for (const std::string& tar : tars) {
      config.append({"rootfs", "diff_ids"}, Sha256::of(tar).str());
      blobs_.push_back(pack(tar, compression));
      manifest_.layers.push_back({.diff_id = Sha256::of(tar),
                                  .blob_digest = Sha256::of(blobs_.back()),
                                  .blob_size = blobs_.back().size(),
                                  .media_type = {}});
    }
    manifest_.names = std::move(names);
    manifest_.config = config.text();
    manifest_.config_digest = Sha256::of(manifest_.config);
  }
  const ImageManifest& manifest() const override { return manifest_; }
  ImageManifest& manifest() { return manifest_; }
  std::unique_ptr<Source> open_layer(size_t index) const override {
    if (is_closed_) throw std::logic_error("a layer was read");
    return std::make_unique<MemorySource>(std::as_bytes(std::span(blobs_.at(index))), 1000);
  }
  void close() { is_closed_ = true; }

 private:
  ImageManifest manifest_;
  std::vector<std::string> blobs_;
  bool is_closed_ = false;
};

}  // namespace veneer::test
