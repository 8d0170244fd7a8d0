// The gRPC server of the daemon: services on one Unix socket.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace veneer {

// What containerd's own server takes and its clients send at most, in one message.
inline constexpr int kMessageBytes = 16 << 20;

class CallService;

// A service to be registered; made by make_<name>_service().
using RpcService = std::shared_ptr<CallService>;

class RpcServer {
 public:
  // Serves, from now on, on a new socket (0600) at this path, as long as the object lives. The file
  // of a socket that nobody listens on is taken over; one that somebody does is unavailable. Next
  // to it is "<path>.lock", held meanwhile. The health service (grpc.health.v1) is there too.
  // invalid_argument for a path that does not fit into an address.
  RpcServer(const std::string& path, std::vector<RpcService> services);
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;
  ~RpcServer();  // drains with no patience

  // Takes no more calls and waits for those that run; what has not come to its end in time is
  // cancelled, and waited for. The socket is gone afterwards.
  void drain(std::chrono::milliseconds patience);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// "unix://<path>" in the form that gRPC wants.
std::string socket_address(const std::string& path);

}  // namespace veneer
