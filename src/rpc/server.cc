#include "rpc/server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <sys/stat.h>

#include <cctype>
#include <utility>

#include "base/error.h"
#include "rpc/socket.h"

namespace veneer {

namespace {

// What containerd's own server takes and its clients send at most.
constexpr int kMessageBytes = 16 << 20;
// Each call has a thread while it runs, so that a slow one is in nobody's way. Calls beyond these
// are answered resource_exhausted.
constexpr int kThreads = 512;
constexpr std::string_view kScheme = "unix://";

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

}  // namespace

struct RpcServer::State {
  State(const std::string& path, std::vector<RpcService> services_given)
      : place(path), services(std::move(services_given)) {}
  SocketPlace place;
  std::vector<RpcService> services;
  std::unique_ptr<grpc::Server> server;
};

RpcServer::RpcServer(const std::string& path, std::vector<RpcService> services)
    : state_(std::make_unique<State>(path, std::move(services))) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  grpc::ResourceQuota quota("calls");
  builder.SetResourceQuota(quota.SetMaxThreads(kThreads));
  builder.SetMaxReceiveMessageSize(kMessageBytes);
  builder.SetMaxSendMessageSize(kMessageBytes);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  // A thread that waits for the next call is there before it comes.
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 2);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 16);
  int is_bound = 0;
  builder.AddListeningPort(socket_address(path), grpc::InsecureServerCredentials(), &is_bound);
  for (const RpcService& service : state_->services) builder.RegisterService(service.get());
  const Umask umask(0177);
  state_->server = builder.BuildAndStart();
  if (state_->server == nullptr || is_bound == 0)
    fail(Code::unavailable, "cannot listen on {}", path);
}

RpcServer::~RpcServer() {
  drain(std::chrono::milliseconds(0));
}

void RpcServer::drain(std::chrono::milliseconds patience) {
  if (state_->server == nullptr) return;
  state_->server->Shutdown(std::chrono::system_clock::now() + patience);
  state_->server->Wait();
  state_->server.reset();
}

std::string socket_address(const std::string& path) {
  std::string address(kScheme);
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_plain = std::isalnum(byte) != 0 || std::string_view("/._-~").contains(c);
    address += is_plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return address;
}

}  // namespace veneer
