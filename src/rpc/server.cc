#include "rpc/server.h"

#include <absl/synchronization/mutex.h>
#include <grpcpp/grpcpp.h>
#include <sys/stat.h>

#include <cctype>
#include <optional>
#include <utility>

#include "base/error.h"
#include "rpc/calls.h"
#include "rpc/polling.h"
#include "rpc/proto/health.grpc.pb.h"
#include "rpc/socket.h"

namespace veneer {

namespace {

// A file that is made meanwhile has none of these bits, and bind(2) has no other way to be told.
class Umask {
 public:
  explicit Umask(mode_t mask) : before_(::umask(mask)) {}
  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;
  ~Umask() { ::umask(before_); }

 private:
  mode_t before_;
};

// Of the process: it is there, so it serves. gRPC's own would have threads that take part in
// polling, and so in every call.
class HealthService final : public CallService {
 public:
  grpc::Service& service() override { return service_; }
  void listen(CallQueue& queue) override {
    answer_unary(queue, service_, &Async::RequestCheck, this, &HealthService::check);
  }

 private:
  using Async = grpc::health::v1::Health::AsyncService;

  grpc::Status check(const grpc::health::v1::HealthCheckRequest& request,
                     grpc::health::v1::HealthCheckResponse& response) {
    if (!request.service().empty()) return {grpc::StatusCode::NOT_FOUND, "unknown service"};
    response.set_status(grpc::health::v1::HealthCheckResponse::SERVING);
    return grpc::Status::OK;
  }

  Async service_;
};

}  // namespace

struct RpcServer::State {
  State(const std::string& path, std::vector<RpcService> services_given)
      : place(path), services(std::move(services_given)) {
    services.push_back(std::make_shared<HealthService>());
  }
  SocketPlace place;
  std::vector<RpcService> services;
  std::optional<CallQueue> queue;
  std::unique_ptr<grpc::Server> server;
  std::optional<Polling> polling;
};

RpcServer::RpcServer(const std::string& path, std::vector<RpcService> services)
    : state_(std::make_unique<State>(path, std::move(services))) {
  // Debian's abseil comes with a debugging aid, which draws a graph of all of gRPC's locks.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMessageBytes);
  builder.SetMaxSendMessageSize(kMessageBytes);
  int is_bound = 0;
  builder.AddListeningPort(socket_address(path), grpc::InsecureServerCredentials(), &is_bound);
  for (const RpcService& service : state_->services) builder.RegisterService(&service->service());
  state_->queue.emplace(builder.AddCompletionQueue());
  {
    const Umask umask(0177);
    state_->server = builder.BuildAndStart();
  }
  if (state_->server == nullptr || is_bound == 0)
    fail(Code::unavailable, "cannot listen on {}", path);
  for (const RpcService& service : state_->services) service->listen(*state_->queue);
  state_->polling.emplace(state_->queue->get());
}

RpcServer::~RpcServer() {
  drain(std::chrono::milliseconds(0));
}

void RpcServer::drain(std::chrono::milliseconds patience) {
  if (state_->server == nullptr) return;
  state_->server->Shutdown(std::chrono::system_clock::now() + patience);
  state_->server->Wait();
  state_->queue->wait_until_unused();  // by handlers of calls that were cancelled, too
  state_->queue->get().Shutdown();
  state_->polling.reset();
  state_->server.reset();
}

std::string socket_address(const std::string& path) {
  std::string address(kUnixScheme);
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_plain = std::isalnum(byte) != 0 || std::string_view("/._-~").contains(c);
    address += is_plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return address;
}

}  // namespace veneer
