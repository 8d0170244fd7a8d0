// A containerd for the differ's tests: its content store and leases in memory, on a real socket;
// and the client of a differ.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/digest.h"
#include "rpc/convert.h"
#include "rpc/proto/content.grpc.pb.h"
#include "rpc/proto/diff.grpc.pb.h"
#include "rpc/proto/leases.grpc.pb.h"
#include "rpc/server.h"

namespace veneer::test {

struct FakeBlob {
  std::string bytes;
  Labels labels;
  std::string lease;
};

class FakeContainerd {
 public:
  explicit FakeContainerd(const std::string& path) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(socket_address(path), grpc::InsecureServerCredentials());
    builder.RegisterService(&content_);
    builder.RegisterService(&leases_);
    server_ = builder.BuildAndStart();
    VENEER_CHECK(server_ != nullptr);
  }
  FakeContainerd(const FakeContainerd&) = delete;
  FakeContainerd& operator=(const FakeContainerd&) = delete;
  ~FakeContainerd() { server_->Shutdown(std::chrono::system_clock::now()); }

  Digest add(const std::string& space, const std::string& bytes, const Labels& labels = {}) {
    const std::scoped_lock lock(mutex_);
    const Digest digest = Sha256::of(bytes);
    blobs_[space][digest.str()] = {.bytes = bytes, .labels = labels, .lease = {}};
    return digest;
  }
  // Other bytes under the same name.
  void replace(const std::string& space, const Digest& digest, const std::string& bytes) {
    const std::scoped_lock lock(mutex_);
    blobs_[space][digest.str()].bytes = bytes;
  }
  std::map<std::string, FakeBlob> blobs(const std::string& space) {
    const std::scoped_lock lock(mutex_);
    return blobs_[space];
  }
  // Calls of Read; refs that a Write began with and that Abort was called for; leases.
  int reads() { return locked(reads_); }
  std::set<std::string> written() { return locked(written_); }
  std::set<std::string> aborted() { return locked(aborted_); }
  std::map<std::string, Labels> leases() { return locked(made_leases_); }

  // Each Read stops after its first piece and waits for its end.
  void hold_reads() { locked(is_holding_) = true; }
  void wait_until_held() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held_ > 0; });
  }
  // False after ten seconds.
  bool wait_until_released() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return held_ == 0; });
  }
  // Each Write fails once it has so many bytes.
  void fail_writes_at(size_t size) { locked(fail_writes_at_) = size; }

 private:
  template <typename Value>
  Value& locked(Value& value) {
    const std::scoped_lock lock(mutex_);
    return value;
  }
  static std::string header(const grpc::ServerContext& call, const char* name) {
    const auto found = call.client_metadata().find(name);
    if (found == call.client_metadata().end()) return "";
    return {found->second.data(), found->second.size()};
  }
  static grpc::Status missing() { return {grpc::StatusCode::NOT_FOUND, "no such content"}; }

  class Content final : public containerd::services::content::v1::Content::Service {
   public:
    explicit Content(FakeContainerd& all) : all_(all) {}

    grpc::Status Info(grpc::ServerContext* call,
                      const containerd::services::content::v1::InfoRequest* request,
                      containerd::services::content::v1::InfoResponse* response) override {
      const std::scoped_lock lock(all_.mutex_);
      const FakeBlob* const blob = all_.find(*call, request->digest());
      if (blob == nullptr) return missing();
      response->mutable_info()->set_size(static_cast<int64_t>(blob->bytes.size()));
      response->mutable_info()->mutable_labels()->insert(blob->labels.begin(), blob->labels.end());
      return grpc::Status::OK;
    }

    // Knows the one kind of filter that is asked for: labels."KEY"=="VALUE".
    grpc::Status List(
        grpc::ServerContext* call,
        const containerd::services::content::v1::ListContentRequest* request,
        grpc::ServerWriter<containerd::services::content::v1::ListContentResponse>* to) override {
      const std::scoped_lock lock(all_.mutex_);
      containerd::services::content::v1::ListContentResponse response;
      for (const auto& [digest, blob] : all_.blobs_[header(*call, "containerd-namespace")])
        for (const auto& [key, value] : blob.labels)
          if (request->filters(0) == "labels.\"" + key + "\"==\"" + value + '"')
            response.add_info()->set_digest(digest);
      to->Write(response);
      return grpc::Status::OK;
    }

    grpc::Status Update(grpc::ServerContext* call,
                        const containerd::services::content::v1::UpdateRequest* request,
                        containerd::services::content::v1::UpdateResponse*) override {
      const std::scoped_lock lock(all_.mutex_);
      FakeBlob* const blob = all_.find(*call, request->info().digest());
      if (blob == nullptr) return missing();
      for (const std::string& path : request->update_mask().paths()) {
        const std::string key = path.substr(std::string("labels.").size());
        blob->labels[key] = request->info().labels().at(key);
      }
      return grpc::Status::OK;
    }

    grpc::Status Read(
        grpc::ServerContext* call,
        const containerd::services::content::v1::ReadContentRequest* request,
        grpc::ServerWriter<containerd::services::content::v1::ReadContentResponse>* to) override {
      std::string bytes;
      {
        const std::scoped_lock lock(all_.mutex_);
        ++all_.reads_;
        const FakeBlob* const blob = all_.find(*call, request->digest());
        if (blob == nullptr) return missing();
        bytes = blob->bytes;
      }
      constexpr size_t kPiece = 32768;
      for (size_t at = 0; at < bytes.size(); at += kPiece) {
        containerd::services::content::v1::ReadContentResponse piece;
        piece.set_offset(static_cast<int64_t>(at));
        piece.set_data(bytes.substr(at, kPiece));
        to->Write(piece);
        all_.maybe_hold(*call);
        if (call->IsCancelled()) return grpc::Status::CANCELLED;
      }
      return grpc::Status::OK;
    }

    grpc::Status Write(
        grpc::ServerContext* call,
        grpc::ServerReaderWriter<containerd::services::content::v1::WriteContentResponse,
                                 containerd::services::content::v1::WriteContentRequest>* stream)
        override {
      return all_.write(*call, *stream);
    }

    grpc::Status Abort(grpc::ServerContext*,
                       const containerd::services::content::v1::AbortRequest* request,
                       google::protobuf::Empty*) override {
      const std::scoped_lock lock(all_.mutex_);
      all_.aborted_.insert(request->ref());
      return grpc::Status::OK;
    }

   private:
    FakeContainerd& all_;
  };

  class Leases final : public containerd::services::leases::v1::Leases::Service {
   public:
    explicit Leases(FakeContainerd& all) : all_(all) {}
    grpc::Status Create(grpc::ServerContext*,
                        const containerd::services::leases::v1::CreateRequest* request,
                        containerd::services::leases::v1::CreateResponse* response) override {
      const std::scoped_lock lock(all_.mutex_);
      all_.made_leases_[request->id()] = {request->labels().begin(), request->labels().end()};
      response->mutable_lease()->set_id(request->id());
      return grpc::Status::OK;
    }

   private:
    FakeContainerd& all_;
  };

  FakeBlob* find(const grpc::ServerContext& call, const std::string& digest) {
    auto& space = blobs_[header(call, "containerd-namespace")];
    const auto found = space.find(digest);
    return found == space.end() ? nullptr : &found->second;
  }

  void maybe_hold(const grpc::ServerContext& call) {
    std::unique_lock lock(mutex_);
    if (!is_holding_) return;
    ++held_;
    changed_.notify_all();
    // A cancelled call tells nobody.
    while (!call.IsCancelled()) changed_.wait_for(lock, std::chrono::milliseconds(5));
    --held_;
    changed_.notify_all();
  }

  // As containerd's own server has it: an answer to each message, and the last one twice.
  grpc::Status write(
      const grpc::ServerContext& call,
      grpc::ServerReaderWriter<containerd::services::content::v1::WriteContentResponse,
                               containerd::services::content::v1::WriteContentRequest>& stream) {
    containerd::services::content::v1::WriteContentRequest request;
    containerd::services::content::v1::WriteContentResponse response;
    std::string bytes;
    std::string ref;
    while (stream.Read(&request)) {
      const std::scoped_lock lock(mutex_);
      if (ref.empty()) ref = request.ref();
      if (ref.empty()) return {grpc::StatusCode::INVALID_ARGUMENT, "no reference"};
      written_.insert(ref);
      if (!request.expected().empty() && find(call, request.expected()) != nullptr)
        return {grpc::StatusCode::ALREADY_EXISTS, "it exists"};
      if (static_cast<size_t>(request.offset()) != bytes.size())
        return {grpc::StatusCode::OUT_OF_RANGE, "not at this offset"};
      bytes += request.data();
      if (bytes.size() > fail_writes_at_) return {grpc::StatusCode::UNAVAILABLE, "disk full"};
      response.set_action(request.action());
      response.set_offset(static_cast<int64_t>(bytes.size()));
      if (request.action() == containerd::services::content::v1::COMMIT) {
        const std::string digest = Sha256::of(bytes).str();
        if (digest != request.expected() || static_cast<size_t>(request.total()) != bytes.size())
          return {grpc::StatusCode::FAILED_PRECONDITION, "unexpected digest or size"};
        blobs_[header(call, "containerd-namespace")][digest] = {
            .bytes = bytes,
            .labels = {request.labels().begin(), request.labels().end()},
            .lease = header(call, "containerd-lease")};
        stream.Write(response);
        stream.Write(response);
        return grpc::Status::OK;
      }
      stream.Write(response);
    }
    return grpc::Status::OK;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::map<std::string, FakeBlob>> blobs_;
  std::map<std::string, Labels> made_leases_;
  std::set<std::string> written_;
  std::set<std::string> aborted_;
  int reads_ = 0;
  int held_ = 0;
  bool is_holding_ = false;
  size_t fail_writes_at_ = SIZE_MAX;
  Content content_{*this};
  Leases leases_{*this};
  std::unique_ptr<grpc::Server> server_;
};

// What a differ answered.
struct DiffAnswer {
  grpc::StatusCode code = grpc::StatusCode::OK;
  std::string message;
  std::string media_type;
  std::string digest;
  uint64_t size = 0;
};

class RemoteDiffer {
 public:
  explicit RemoteDiffer(const std::string& path)
      : stub_(grpc::CreateChannel(socket_address(path), grpc::InsecureChannelCredentials())) {}

  using Headers = std::map<std::string, std::string>;

  DiffAnswer apply(const containerd::services::diff::v1::ApplyRequest& request,
                   const Headers& headers) {
    grpc::ClientContext context;
    return apply(request, headers, context);
  }
  // With a context that another thread may cancel.
  DiffAnswer apply(const containerd::services::diff::v1::ApplyRequest& request,
                   const Headers& headers, grpc::ClientContext& context) {
    add(headers, context);
    containerd::services::diff::v1::ApplyResponse response;
    const grpc::Status status = stub_.Apply(&context, request, &response);
    return answer(status, response.applied());
  }
  DiffAnswer diff(const containerd::services::diff::v1::DiffRequest& request,
                  const Headers& headers) {
    grpc::ClientContext context;
    add(headers, context);
    containerd::services::diff::v1::DiffResponse response;
    const grpc::Status status = stub_.Diff(&context, request, &response);
    return answer(status, response.diff());
  }

 private:
  static void add(const Headers& headers, grpc::ClientContext& context) {
    for (const auto& [name, value] : headers) context.AddMetadata(name, value);
  }
  static DiffAnswer answer(const grpc::Status& status,
                           const containerd::types::Descriptor& descriptor) {
    return {.code = status.error_code(),
            .message = status.error_message(),
            .media_type = descriptor.media_type(),
            .digest = descriptor.digest(),
            .size = static_cast<uint64_t>(descriptor.size())};
  }

  containerd::services::diff::v1::Diff::Stub stub_;
};

}  // namespace veneer::test
