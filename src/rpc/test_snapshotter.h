// A client of the service of snapshots, for the tests: a snapshotter whose calls go through a
// socket and come back.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "rpc/convert.h"
#include "rpc/proto/snapshots.grpc.pb.h"
#include "rpc/server.h"

namespace veneer::test {

class RemoteSnapshotter final : public Snapshotter {
 public:
  explicit RemoteSnapshotter(const std::string& path) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(16 << 20);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    stub_ = snapshots_v1::Snapshots::NewStub(grpc::CreateCustomChannel(
        socket_address(path), grpc::InsecureChannelCredentials(), arguments));
  }
  snapshots_v1::Snapshots::Stub& stub() { return *stub_; }

  SnapshotInfo stat(std::string_view key) override {
    return from_proto(call(&Stub::Stat, keyed<snapshots_v1::StatSnapshotRequest>(key)).info());
  }
  SnapshotInfo update(const SnapshotInfo& info, const std::vector<std::string>& fields) override {
    snapshots_v1::UpdateSnapshotRequest request;
    to_proto(info, *request.mutable_info());
    for (const std::string& field : fields) request.mutable_update_mask()->add_paths(field);
    return from_proto(call(&Stub::Update, request).info());
  }
  Usage usage(std::string_view key) override {
    const auto answer = call(&Stub::Usage, keyed<snapshots_v1::UsageRequest>(key));
    return {.size_bytes = static_cast<uint64_t>(answer.size()),
            .inodes = static_cast<uint64_t>(answer.inodes())};
  }
  std::vector<Mount> mounts(std::string_view key) override {
    return from_proto(call(&Stub::Mounts, keyed<snapshots_v1::MountsRequest>(key)).mounts());
  }
  std::vector<Mount> prepare(std::string_view key, std::string_view parent,
                             const Labels& labels) override {
    auto request = keyed<snapshots_v1::PrepareSnapshotRequest>(key);
    request.set_parent(std::string(parent));
    request.mutable_labels()->insert(labels.begin(), labels.end());
    return from_proto(call(&Stub::Prepare, request).mounts());
  }
  std::vector<Mount> view(std::string_view key, std::string_view parent,
                          const Labels& labels) override {
    auto request = keyed<snapshots_v1::ViewSnapshotRequest>(key);
    request.set_parent(std::string(parent));
    request.mutable_labels()->insert(labels.begin(), labels.end());
    return from_proto(call(&Stub::View, request).mounts());
  }
  void commit(std::string_view name, std::string_view key, const CommitOptions& options) override {
    auto request = keyed<snapshots_v1::CommitSnapshotRequest>(key);
    request.set_name(std::string(name));
    request.set_parent(options.parent.value_or(""));
    request.mutable_labels()->insert(options.labels.begin(), options.labels.end());
    call(&Stub::Commit, request);
  }
  void remove(std::string_view key) override {
    call(&Stub::Remove, keyed<snapshots_v1::RemoveSnapshotRequest>(key));
  }
  void walk(const std::vector<std::string>& filters,
            const std::function<void(const SnapshotInfo&)>& visit) override {
    snapshots_v1::ListSnapshotsRequest request;
    for (const std::string& filter : filters) request.add_filters(filter);
    grpc::ClientContext context;
    const auto reader = stub_->List(&context, request);
    snapshots_v1::ListSnapshotsResponse page;
    while (reader->Read(&page))
      for (const snapshots_v1::Info& info : page.info()) visit(from_proto(info));
    expect_ok(reader->Finish());
  }
  void cleanup() override { call(&Stub::Cleanup, snapshots_v1::CleanupRequest()); }

 private:
  using Stub = snapshots_v1::Snapshots::Stub;

  template <typename Request>
  static Request keyed(std::string_view key) {
    Request request;
    request.set_snapshotter("veneer");
    request.set_key(std::string(key));
    return request;
  }

  template <typename Request, typename Response>
  Response call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                const Request& request) {
    grpc::ClientContext context;
    Response response;
    expect_ok((stub_.get()->*method)(&context, request, &response));
    return response;
  }

  static void expect_ok(const grpc::Status& status) {
    if (status.ok()) return;
    for (int i = 0; i <= static_cast<int>(Code::io); ++i)
      if (to_status_code(static_cast<Code>(i)) == status.error_code())
        fail(static_cast<Code>(i), "{}", status.error_message());
    throw std::runtime_error("status " + std::to_string(status.error_code()) + ": " +
                             status.error_message());
  }

  std::unique_ptr<Stub> stub_;
};

// Calls a method by its path, with messages as they are on the wire.
inline std::string call_raw(const std::string& path, const std::string& method,
                            const std::string& message) {
  grpc::GenericStub stub(
      grpc::CreateChannel(socket_address(path), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const grpc::Slice slice(message);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, method, grpc::StubOptions(), &request, &response,
                 [&](const grpc::Status& status) { done.set_value(status); });
  const grpc::Status status = done.get_future().get();
  if (!status.ok()) throw std::runtime_error(status.error_message());
  grpc::Slice answer;
  if (!response.DumpToSingleSlice(&answer).ok()) throw std::runtime_error("no answer");
  return {reinterpret_cast<const char*>(answer.begin()), answer.size()};
}

}  // namespace veneer::test
