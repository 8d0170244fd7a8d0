#include "rpc/diff_service.h"

#include <grpcpp/server_context.h>

#include <chrono>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "rpc/apply_layer.h"
#include "rpc/blob_files.h"
#include "rpc/calls.h"
#include "rpc/content_client.h"
#include "rpc/convert.h"
#include "rpc/guarded.h"
#include "rpc/image_layers.h"
#include "rpc/media_types.h"
#include "rpc/proto/diff.grpc.pb.h"
#include "rpc/read_ahead.h"
#include "rpc/write_layer.h"

namespace veneer {

namespace {

using grpc::ServerContext;
using grpc::Status;
namespace diff_v1 = containerd::services::diff::v1;

// Those that one call may read.
class CallBlobs final : public Blobs {
 public:
  CallBlobs(const DiffServiceOptions& options, const ContentClient* client,
            const ServerContext& call)
      : options_(options), client_(client), call_(call) {}

  std::unique_ptr<Source> open(const Digest& digest) override {
    if (!options_.content_dir.empty())
      if (auto file = maybe_open_blob(options_.content_dir, digest)) return file;
    if (client_ == nullptr)
      fail(Code::not_found, "{} has no blob {}", options_.content_dir, digest.str());
    return client_->open(call_, digest);
  }

  std::optional<std::string> maybe_label(const Digest& digest, std::string_view key) override {
    if (client_ == nullptr) return std::nullopt;
    try {
      return client_->maybe_label(call_, digest, key);
    } catch (const Error&) {
      return std::nullopt;  // it is no more than a hint, and the blob may be read all the same
    }
  }

  bool is_cancelled() const override { return call_.IsCancelled(); }

  ReadAhead::Find maybe_finder(const Digest& layer, std::vector<Digest> below) const override {
    if (client_ == nullptr) return {};
    LayerPlace place{.space = namespace_of(call_), .blob = layer, .below = std::move(below)};
    // The service's own: they are there as long as anything is read ahead.
    return [client = client_, &options = options_, place = std::move(place)] {
      return find_layers_above(*client, options.content_dir, place);
    };
  }

 private:
  const DiffServiceOptions& options_;
  const ContentClient* client_;
  const ServerContext& call_;
};

std::vector<Mount> require_mounts(const ProtoMounts& mounts) {
  for (const containerd::types::Mount& mount : mounts)
    if (!mount.target().empty())
      fail(Code::unsupported, "a mount on {} is not one of ours", mount.target());
  return from_proto(mounts);
}

LayerDescriptor to_layer(const containerd::types::Descriptor& descriptor) {
  LayerDescriptor layer;
  layer.media_type = descriptor.media_type();
  layer.digest = Digest::parse(descriptor.digest());
  if (descriptor.size() < 0) fail(Code::invalid_argument, "a blob of {} bytes", descriptor.size());
  if (descriptor.size() > 0) layer.size_bytes = static_cast<uint64_t>(descriptor.size());
  layer.annotations = {descriptor.annotations().begin(), descriptor.annotations().end()};
  return layer;
}

// Errors are the client's own doing if it has gone.
template <typename Body>
void cancellable(const ServerContext& call, Body&& body) {
  try {
    body();
  } catch (const Error&) {
    if (call.IsCancelled()) throw Cancelled{};
    throw;
  }
}

class DiffService final : public CallService {
 public:
  DiffService(Store& store, DiffServiceOptions options, const Observer& observer)
      : store_(store), options_(std::move(options)), observer_(observer) {
    if (!options_.containerd.empty()) client_.emplace(options_.containerd);
    // What is read ahead is read as files: over a socket, a call would have to wait for it.
    if (client_ && !options_.content_dir.empty()) ahead_.emplace(store_, ahead_options());
  }

  grpc::Service& service() override { return service_; }
  void listen(CallQueue& queue) override {
    answer_unary(queue, service_, &Async::RequestApply, this, &DiffService::answer_apply);
    answer_unary(queue, service_, &Async::RequestDiff, this, &DiffService::answer_diff);
  }

 private:
  using Async = diff_v1::Diff::AsyncService;

  Status answer_apply(const ServerContext& call, const diff_v1::ApplyRequest& request,
                      diff_v1::ApplyResponse& response) {
    const auto body = [&] { apply(call, request, *response.mutable_applied()); };
    return guarded(observer_, "Apply", request.diff().digest(), [&] { cancellable(call, body); });
  }

  Status answer_diff(const ServerContext& call, const diff_v1::DiffRequest& request,
                     diff_v1::DiffResponse& response) {
    const auto body = [&] { diff(call, request, *response.mutable_diff()); };
    return guarded(observer_, "Diff", request.ref(), [&] { cancellable(call, body); });
  }

  // `sync_fs` asks for what is always so, unless the store is a volatile one.
  void apply(const ServerContext& call, const diff_v1::ApplyRequest& request,
             containerd::types::Descriptor& applied) {
    const ApplyJob job{.space = options_.space,
                       .mounts = require_mounts(request.mounts()),
                       .layer = to_layer(request.diff())};
    CallBlobs blobs(options_, client(), call);
    const auto start = std::chrono::steady_clock::now();
    const AppliedLayer layer = apply_to_snapshot(store_, job, blobs, ahead_ ? &*ahead_ : nullptr);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (observer_.metrics != nullptr) observer_.metrics->add_import(layer, taken.count());
    if (options_.on_removed) options_.on_removed();
    applied.set_media_type(std::string(kLayerTar));
    applied.set_digest(layer.diff_id.str());
    applied.set_size(static_cast<int64_t>(layer.size_bytes));
  }

  void diff(const ServerContext& call, const diff_v1::DiffRequest& request,
            containerd::types::Descriptor& result) {
    if (client() == nullptr)
      fail(Code::unsupported, "layers cannot be written: no containerd is configured");
    WriteJob job = plan_write(store_, {.space = options_.space,
                                       .left = require_mounts(request.left()),
                                       .right = require_mounts(request.right()),
                                       .media_type = request.media_type(),
                                       .labels = from_proto(request.labels())});
    if (request.has_source_date_epoch()) job.options.epoch = request.source_date_epoch().seconds();
    const auto upload = client()->upload(call, request.ref());
    const Digest diff_id = write_compressed(store_, job, *upload);
    job.labels[std::string(kUncompressedLabel)] = diff_id.str();
    const auto blob = upload->commit(job.labels);
    result.set_media_type(job.media_type);
    result.set_digest(blob.digest.str());
    result.set_size(static_cast<int64_t>(blob.size_bytes));
  }

  const ContentClient* client() const { return client_ ? &*client_ : nullptr; }

  ReadAhead::Options ahead_options() const {
    return {
        .open = [this](const Digest& blob) { return open_file(blob); },
        .on_end = [this](const Digest& blob, std::string_view error) { log_ahead(blob, error); }};
  }
  std::unique_ptr<Source> open_file(const Digest& blob) const {
    auto file = maybe_open_blob(options_.content_dir, blob);
    if (!file) fail(Code::not_found, "{} has no blob {}", options_.content_dir, blob.str());
    return file;
  }
  void log_ahead(const Digest& blob, std::string_view error) const {
    constexpr auto kLevel = Log::Level::debug;  // the call that wants it says what is wrong
    if (error.empty())
      observer_.log.write(kLevel, {{"event", "read ahead"}, {"blob", blob.str()}});
    else
      observer_.log.write(
          kLevel,
          {{"event", "not read ahead"}, {"blob", blob.str()}, {"error", std::string(error)}});
  }

  Store& store_;
  DiffServiceOptions options_;
  const Observer observer_;
  std::optional<ContentClient> client_;
  std::optional<ReadAhead> ahead_;
  Async service_;
};

}  // namespace

RpcService make_diff_service(Store& store, DiffServiceOptions options, const Observer& observer) {
  return std::make_shared<DiffService>(store, std::move(options), observer);
}

}  // namespace veneer
