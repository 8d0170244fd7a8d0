#include "rpc/content_client.h"

#include <grpcpp/create_channel.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "image/timestamp.h"
#include "rpc/proto/content.grpc.pb.h"
#include "rpc/proto/leases.grpc.pb.h"
#include "rpc/server.h"
#include "rpc/socket.h"

namespace veneer {

namespace {

namespace content_v1 = containerd::services::content::v1;
namespace leases_v1 = containerd::services::leases::v1;
using ContextPtr = std::unique_ptr<grpc::ClientContext>;
using Stub = content_v1::Content::Stub;
using Headers = std::multimap<grpc::string_ref, grpc::string_ref>;

constexpr const char* kNamespaceHeader = "containerd-namespace";
constexpr const char* kLeaseHeader = "containerd-lease";
constexpr std::string_view kLeaseExpiry = "containerd.io/gc.expire";
// Long enough for any client to refer to what it asked for.
constexpr std::chrono::minutes kLeaseTime(15);
constexpr size_t kPieceBytes = 1 << 20;
constexpr int kRedialMs = 3000;
constexpr std::chrono::seconds kListTime(10);

Code code_of(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::NOT_FOUND:
      return Code::not_found;
    case grpc::StatusCode::ALREADY_EXISTS:
      return Code::already_exists;
    case grpc::StatusCode::INVALID_ARGUMENT:
      return Code::invalid_argument;
    case grpc::StatusCode::FAILED_PRECONDITION:
      return Code::failed_precondition;
    case grpc::StatusCode::DATA_LOSS:
      return Code::corrupt;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return Code::resource_exhausted;
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Code::unavailable;
    default:
      return Code::io;  // what containerd has not implemented, too: that is not about us
  }
}

[[noreturn]] void fail_with(const grpc::Status& status, std::string_view what) {
  fail(code_of(status.error_code()), "containerd: {}: {}", what, status.error_message());
}

void require_ok(const grpc::Status& status, std::string_view what) {
  if (!status.ok()) fail_with(status, what);
}

std::string header_of(const grpc::ServerContext& call, const char* name) {
  const Headers& headers = call.client_metadata();
  const auto found = headers.find(name);
  return found == headers.end() ? "" : std::string(found->second.data(), found->second.size());
}

void add_namespace(grpc::ClientContext& context, const std::string& space) {
  if (!space.empty()) context.AddMetadata(kNamespaceHeader, space);
}

// The context of a call that is part of `call`.
ContextPtr make_context(const grpc::ServerContext& call, const std::string& lease) {
  ContextPtr context = grpc::ClientContext::FromServerContext(call);
  add_namespace(*context, namespace_of(call));
  if (!lease.empty()) context->AddMetadata(kLeaseHeader, lease);
  return context;
}

ContextPtr make_context(const grpc::ServerContext& call) {
  return make_context(call, header_of(call, kLeaseHeader));
}

// Of one that is part of no other, and may take that long.
ContextPtr make_own_context(const std::string& space, std::chrono::milliseconds time) {
  auto context = std::make_unique<grpc::ClientContext>();
  add_namespace(*context, space);
  context->set_deadline(std::chrono::system_clock::now() + time);
  return context;
}

std::shared_ptr<grpc::Channel> make_channel(const std::string& address) {
  const std::string path = address.starts_with('/') ? address : socket_path(address);
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageBytes);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kRedialMs);
  return grpc::CreateCustomChannel(socket_address(path), grpc::InsecureChannelCredentials(),
                                   arguments);
}

class BlobSource final : public Source {
 public:
  BlobSource(Stub& stub, ContextPtr context, const Digest& blob)
      : context_(std::move(context)), what_("read " + blob.str()) {
    content_v1::ReadContentRequest request;
    request.set_digest(blob.str());
    reader_ = stub.Read(context_.get(), request);
  }
  ~BlobSource() override {
    if (is_done_) return;
    context_->TryCancel();
    (void)reader_->Finish();  // it says that it was cancelled
  }

  Bytes next(Room) override {
    while (!is_done_) {
      if (!reader_->Read(&response_)) {
        is_done_ = true;
        require_ok(reader_->Finish(), what_);
      } else if (!response_.data().empty()) {
        return std::as_bytes(std::span(response_.data()));
      }
    }
    return {};
  }

 private:
  ContextPtr context_;
  std::string what_;
  std::unique_ptr<grpc::ClientReader<content_v1::ReadContentResponse>> reader_;
  content_v1::ReadContentResponse response_;
  bool is_done_ = false;
};

class BlobUpload final : public ContentClient::Upload {
 public:
  using Blob = ContentClient::Upload::Blob;

  BlobUpload(Stub& stub, const grpc::ServerContext& call, std::string lease, const std::string& ref)
      : stub_(stub),
        call_(call),
        lease_(std::move(lease)),
        is_own_ref_(ref.empty()),
        ref_(is_own_ref_ ? "veneer-diff-" + random_name() : ref),
        context_(make_context(call_, lease_)),
        stream_(stub_.Write(context_.get())) {
    request_.set_ref(ref_);
  }
  ~BlobUpload() override;

  void write(Bytes bytes) override;
  Blob commit(const Labels& labels) override;

 private:
  bool send(content_v1::WriteAction action);
  grpc::Status finish();
  void add_labels(const std::string& digest, const Labels& labels);

  Stub& stub_;
  const grpc::ServerContext& call_;
  std::string lease_;
  bool is_own_ref_;
  std::string ref_;
  ContextPtr context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<content_v1::WriteContentRequest, content_v1::WriteContentResponse>>
      stream_;
  content_v1::WriteContentRequest request_;  // with what is not yet sent
  Sha256 sha_;
  uint64_t sent_ = 0;
  bool is_finished_ = false;
  bool is_committed_ = false;
};

// What was sent under a ref of our own would stay until containerd's next collection; nobody else
// can go on with it. Not as a part of the call, which may be cancelled.
BlobUpload::~BlobUpload() {
  if (is_committed_) return;
  if (!is_finished_) context_->TryCancel();
  if (!is_finished_) (void)finish();
  if (!is_own_ref_) return;
  const ContextPtr context =
      make_own_context(namespace_of(call_), std::chrono::milliseconds(kRedialMs));
  content_v1::AbortRequest request;
  request.set_ref(ref_);
  google::protobuf::Empty response;
  (void)stub_.Abort(context.get(), request, &response);  // it is collected some day
}

void BlobUpload::write(Bytes bytes) {
  sha_.update(bytes);
  std::string& data = *request_.mutable_data();
  while (!bytes.empty()) {
    const Bytes piece = bytes.first(std::min(bytes.size(), kPieceBytes - data.size()));
    data.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    bytes = bytes.subspan(piece.size());
    if (data.size() == kPieceBytes && !send(content_v1::WRITE)) {
      const grpc::Status status = finish();
      if (status.ok()) fail(Code::io, "containerd: write {}: it ends too early", ref_);
      fail_with(status, "write " + ref_);
    }
  }
}

// Sends what there is, and waits for the answer. False if the stream is at its end.
bool BlobUpload::send(content_v1::WriteAction action) {
  const size_t size = request_.data().size();
  request_.set_action(action);
  request_.set_offset(static_cast<int64_t>(sent_));
  content_v1::WriteContentResponse response;
  if (!stream_->Write(request_) || !stream_->Read(&response)) return false;
  sent_ += size;
  request_.clear_data();
  if (std::cmp_not_equal(response.offset(), sent_))
    fail(Code::io, "containerd: write {}: it is at {}, not {}", ref_, response.offset(), sent_);
  return true;
}

grpc::Status BlobUpload::finish() {
  is_finished_ = true;
  content_v1::WriteContentResponse response;
  while (stream_->Read(&response)) continue;  // a commit is answered twice
  return stream_->Finish();
}

BlobUpload::Blob BlobUpload::commit(const Labels& labels) {
  const Blob blob{.digest = sha_.finish(), .size_bytes = sent_ + request_.data().size()};
  const std::string digest = blob.digest.str();
  request_.set_total(static_cast<int64_t>(blob.size_bytes));
  request_.set_expected(digest);
  request_.mutable_labels()->insert(labels.begin(), labels.end());
  const bool is_sent = send(content_v1::COMMIT);
  if (is_sent) (void)stream_->WritesDone();
  const grpc::Status status = finish();
  if (status.error_code() == grpc::StatusCode::ALREADY_EXISTS) {
    add_labels(digest, labels);
    return blob;  // the destructor gives up the ref
  }
  require_ok(status, "commit " + ref_);
  if (!is_sent) fail(Code::io, "containerd: commit {}: it ends too early", ref_);
  is_committed_ = true;
  return blob;
}

void BlobUpload::add_labels(const std::string& digest, const Labels& labels) {
  const ContextPtr context = make_context(call_, lease_);
  content_v1::UpdateRequest request;
  request.mutable_info()->set_digest(digest);
  request.mutable_info()->mutable_labels()->insert(labels.begin(), labels.end());
  for (const auto& [key, value] : labels) request.mutable_update_mask()->add_paths("labels." + key);
  content_v1::UpdateResponse response;
  require_ok(stub_.Update(context.get(), request, &response), "label " + digest);
}

}  // namespace

std::string namespace_of(const grpc::ServerContext& call) {
  return header_of(call, kNamespaceHeader);
}

struct ContentClient::Stubs {
  explicit Stubs(const std::shared_ptr<grpc::Channel>& channel)
      : content(channel), leases(channel) {}
  Stub content;
  leases_v1::Leases::Stub leases;
};

ContentClient::ContentClient(const std::string& address)
    : stubs_(std::make_unique<Stubs>(make_channel(address))) {}

ContentClient::~ContentClient() = default;

std::optional<std::string> ContentClient::maybe_label(const grpc::ServerContext& call,
                                                      const Digest& blob,
                                                      std::string_view key) const {
  const ContextPtr context = make_context(call);
  content_v1::InfoRequest request;
  request.set_digest(blob.str());
  content_v1::InfoResponse response;
  const grpc::Status status = stubs_->content.Info(context.get(), request, &response);
  if (status.error_code() == grpc::StatusCode::NOT_FOUND) return std::nullopt;
  require_ok(status, "info of " + blob.str());
  const auto& labels = response.info().labels();
  const auto found = labels.find(std::string(key));
  return found == labels.end() ? std::nullopt : std::optional(found->second);
}

std::vector<Digest> ContentClient::labelled(const std::string& space, std::string_view key,
                                            std::string_view value) const {
  const ContextPtr context = make_own_context(space, kListTime);
  content_v1::ListContentRequest request;
  request.add_filters(fmt::format("labels.\"{}\"==\"{}\"", key, value));
  const auto reader = stubs_->content.List(context.get(), request);
  std::vector<std::string> names;
  content_v1::ListContentResponse response;
  while (reader->Read(&response))
    for (const content_v1::Info& info : response.info()) names.push_back(info.digest());
  require_ok(reader->Finish(), "list content");
  std::vector<Digest> found;
  for (const std::string& name : names) found.push_back(Digest::parse(name));
  return found;
}

std::unique_ptr<Source> ContentClient::open(const grpc::ServerContext& call,
                                            const Digest& blob) const {
  return std::make_unique<BlobSource>(stubs_->content, make_context(call), blob);
}

std::unique_ptr<ContentClient::Upload> ContentClient::upload(const grpc::ServerContext& call,
                                                             const std::string& ref) const {
  std::string lease = header_of(call, kLeaseHeader);
  if (lease.empty()) {
    const ContextPtr context = make_context(call, "");
    leases_v1::CreateRequest request;
    request.set_id("veneer-diff-" + random_name());
    (*request.mutable_labels())[std::string(kLeaseExpiry)] =
        format_timestamp(std::chrono::floor<std::chrono::seconds>(now()) + kLeaseTime);
    leases_v1::CreateResponse response;
    require_ok(stubs_->leases.Create(context.get(), request, &response), "make a lease");
    lease = response.lease().id();
  }
  return std::make_unique<BlobUpload>(stubs_->content, call, std::move(lease), ref);
}

}  // namespace veneer
