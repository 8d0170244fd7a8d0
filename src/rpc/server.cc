#include "rpc/server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <utility>

#include "base/at.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/lock.h"

namespace veneer {

namespace {

// What containerd's own server takes and its clients send at most.
constexpr int kMessageBytes = 16 << 20;
// Each call has a thread while it runs, so that a slow one is in nobody's way. Calls beyond these
// are answered resource_exhausted.
constexpr int kThreads = 512;
constexpr std::string_view kScheme = "unix://";

// The place of the socket, which no two servers share.
class SocketPlace {
 public:
  explicit SocketPlace(const std::string& path);
  ~SocketPlace();

 private:
  UniqueFd dir_;
  RelPath name_;
  UniqueFd lock_;
};

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path))
    fail(Code::invalid_argument, "the path of a socket has at most {} bytes: {}",
         sizeof(address.sun_path) - 1, path);
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

bool is_served(const std::string& path) {
  const sockaddr_un address = address_of(path);
  const UniqueFd socket(check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  // The kernel's interface takes every kind of address as a sockaddr.
  const auto* const any = reinterpret_cast<const sockaddr*>(&address);
  if (::connect(socket.get(), any, sizeof(address)) == 0) return true;
  if (errno == ECONNREFUSED || errno == ENOENT) return false;
  fail_errno(errno, "connect to {}", path);
}

SocketPlace::SocketPlace(const std::string& path) {
  (void)address_of(path);  // it fits
  const size_t slash = path.rfind('/');
  dir_ = open_or_make_root(path.substr(0, std::max<size_t>(slash, 1)), 0711).fd;
  name_ = RelPath::parse_name(path.substr(slash + 1), "socket");
  const RelPath lock = RelPath::parse(name_.str() + ".lock");
  lock_ = open_at(dir_.get(), lock, O_RDWR | O_CREAT, 0600);
  if (!try_lock_fd(lock_.get())) fail(Code::unavailable, "another process serves on {}", path);
  const auto there = maybe_stat_at(dir_.get(), name_);
  if (!there) return;
  if (!S_ISSOCK(there->st_mode)) fail(Code::failed_precondition, "{} is not a socket", path);
  if (is_served(path)) fail(Code::unavailable, "another process serves on {}", path);
  unlink_at(dir_.get(), name_);
}

SocketPlace::~SocketPlace() {
  try {
    if (exists_at(dir_.get(), name_)) unlink_at(dir_.get(), name_);
  } catch (const Error&) {
    // The next server takes it over.
  }
}

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

std::string socket_path(const std::string& address) {
  const std::string path =
      address.starts_with(kScheme) ? address.substr(kScheme.size()) : std::string();
  if (!path.starts_with('/') || path.ends_with('/') || path.contains('\0'))
    fail(Code::invalid_argument, "\"{}\" is not unix:// and an absolute path", address);
  (void)address_of(path);
  return path;
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
