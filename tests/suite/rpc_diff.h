// What the tests of the differ share: the differ behind a real socket, over a real store, and a
// content store that is a server too, with some layers.
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rpc/apply_layer.h"
#include "rpc/diff_service.h"
#include "rpc/media_types.h"
#include "rpc/test_content.h"
#include "store/store.h"
#include "tests/suite/snapshotter_suite.h"
#include "tests/support/layer_tar.h"
#include "tests/support/sample_layers.h"
#include "tests/support/tree.h"

namespace veneer::test {

using grpc::StatusCode;

inline const Log kSilent;
inline constexpr std::string_view kSpace = "containerd";
inline constexpr const char* kNamespace = "k8s.io";
inline constexpr const char* kDockerTar = "application/vnd.docker.image.rootfs.diff.tar";
inline constexpr const char* kOciZstd = "application/vnd.oci.image.layer.v1.tar+zstd";
inline const std::string kGzip(kLayerTarGzip);
inline const std::string kTar(kLayerTar);
inline const std::string kLabel(kUncompressedLabel);

inline std::string decompress(const std::string& bytes) {
  MemorySource source(std::as_bytes(std::span(bytes)));
  DecompressingSource plain(source);
  return read_all(plain, 1 << 30, "layer");
}

// With bytes after its end, which count for the digest.
inline std::string base_tar() {
  LayerTar tar;
  tar.dir("./", {.mode = 0751}).dir("d").file("d/one", "1").file("f", "base");
  return tar.bytes() + std::string(4096, '\0');
}

inline std::string top_tar() {
  LayerTar tar;
  tar.whiteout("d/one").file("f", "top").file("g", "new", {.mode = 0600, .uid = 7, .gid = 8});
  return tar.bytes();
}

struct Blob {
  Digest digest;
  std::string media_type;
  size_t size = 0;
  std::map<std::string, std::string> annotations = {};
};
class RpcDiff : public testing::Test {
 protected:
  RpcDiff() { serve({.space = std::string(kSpace), .containerd = path("ctd.sock")}); }

  std::string path(const std::string& name) const { return scratch_.path() + "/" + name; }
  void serve(DiffServiceOptions options) {
    server_.reset();
    const std::string socket = path(fmt::format("veneer{}.sock", ++servers_));
    server_.emplace(socket, std::vector{make_diff_service(store_, std::move(options), kSilent)});
    differ_.emplace(socket);
  }

  Blob add_blob(const std::string& bytes, const std::string& media_type,
                const Labels& labels = {}) {
    return {.digest = containerd_.add(kNamespace, bytes, labels),
            .media_type = media_type,
            .size = bytes.size()};
  }

  static containerd::services::diff::v1::ApplyRequest apply_request(
      const Blob& blob, const std::vector<Mount>& mounts) {
    containerd::services::diff::v1::ApplyRequest request;
    request.mutable_diff()->set_media_type(blob.media_type);
    request.mutable_diff()->set_digest(blob.digest.str());
    request.mutable_diff()->set_size(static_cast<int64_t>(blob.size));
    request.mutable_diff()->mutable_annotations()->insert(blob.annotations.begin(),
                                                          blob.annotations.end());
    to_proto(mounts, *request.mutable_mounts());
    return request;
  }
  DiffAnswer apply(const Blob& blob, const std::vector<Mount>& mounts,
                   const char* space = kNamespace) {
    return differ_->apply(apply_request(blob, mounts), {{"containerd-namespace", space}});
  }

  // An Apply that waits for its blob, until `context` is cancelled.
  std::future<DiffAnswer> apply_held(const Blob& blob, const std::vector<Mount>& mounts,
                                     grpc::ClientContext& context) {
    containerd_.hold_reads();
    auto answer = std::async(std::launch::async, [=, this, &context] {
      return differ_->apply(apply_request(blob, mounts), {{"containerd-namespace", kNamespace}},
                            context);
    });
    containerd_.wait_until_held();
    return answer;
  }

  // What an unpacker does for each layer.
  DiffAnswer unpack(const Blob& blob, const std::string& name, const std::string& parent) {
    const auto mounts = snapshots_->prepare("extract " + name, parent, {});
    DiffAnswer answer = apply(blob, mounts);
    if (answer.code == StatusCode::OK) snapshots_->commit(name, "extract " + name, {});
    return answer;
  }

  containerd::services::diff::v1::DiffRequest diff_request(const std::vector<Mount>& left,
                                                           const std::vector<Mount>& right,
                                                           const std::string& media_type) {
    containerd::services::diff::v1::DiffRequest request;
    to_proto(left, *request.mutable_left());
    to_proto(right, *request.mutable_right());
    request.set_media_type(media_type);
    return request;
  }
  DiffAnswer diff(const containerd::services::diff::v1::DiffRequest& request,
                  RemoteDiffer::Headers headers = {}) {
    headers.emplace("containerd-namespace", kNamespace);
    return differ_->diff(request, headers);
  }

  // A container over a committed snapshot, with a change.
  std::vector<Mount> start(const std::string& key, const std::string& parent,
                           const std::string& file = "mine") {
    const auto mounts = snapshots_->prepare(key, parent, {});
    const ClientMount mounted = mount(mounts);
    write_file_at(mounted.dir(), RelPath::parse(file), "written", 0640);
    return mounts;
  }

  ClientMount mount(const std::vector<Mount>& mounts) {
    return {mounts, path(fmt::format("mount-{}", next_++))};
  }
  std::map<std::string, std::string> tree(const std::string& name, const Describe& what = {}) {
    const std::string key = fmt::format("look-{}", next_++);
    const auto mounts = snapshots_->view(key, name, {});
    auto lines = describe_tree(mount(mounts).dir(), what);
    snapshots_->remove(key);
    return lines;
  }
  std::string names(const std::string& name) {
    const std::string key = fmt::format("look-{}", next_++);
    const auto mounts = snapshots_->view(key, name, {});
    std::string text = names_of(mount(mounts).dir());
    snapshots_->remove(key);
    return text;
  }
  size_t count_layers() { return list_dir(store_.layout().layers()).size(); }
  size_t count_staging() { return list_dir(store_.layout().staging()).size(); }

  Scratch scratch_;
  FakeContainerd containerd_{path("ctd.sock")};
  Store store_{{.root = path("root"), .run = path("run"), .is_volatile = false, .form = {}}};
  std::unique_ptr<Snapshotter> snapshots_ = open_snapshotter(store_, kSpace);
  std::optional<RpcServer> server_;
  std::optional<RemoteDiffer> differ_;
  int servers_ = 0;
  int next_ = 0;
};

}  // namespace veneer::test
