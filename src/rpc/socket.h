// Listening sockets: Unix sockets for root alone, and TCP.
#pragma once

#include <sys/stat.h>

#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/path.h"

namespace veneer {

inline constexpr std::string_view kUnixScheme = "unix://";

// The place of a Unix socket, which no two servers share: "<path>.lock" is locked as long as the
// object lives. A socket that nobody listens on is removed; one that somebody does is unavailable.
// invalid_argument for a path that does not fit into an address. At the end the socket is removed.
class SocketPlace {
 public:
  explicit SocketPlace(const std::string& path);
  SocketPlace(const SocketPlace&) = delete;
  SocketPlace& operator=(const SocketPlace&) = delete;
  ~SocketPlace();

 private:
  UniqueFd dir_;
  RelPath name_;
  UniqueFd lock_;
};

// A new socket (0600) at a place that the caller has.
UniqueFd listen_unix(const std::string& path);
// `address` is "127.0.0.1:9100" or "[::1]:9100"; port 0 is any free one. invalid_argument for
// another address, unavailable (EADDRINUSE) for one that is taken.
UniqueFd listen_tcp(const std::string& address);
// What was asked for, with the port that the kernel chose.
std::string tcp_address(int listener, const std::string& asked);

// The path in "unix://<absolute path>"; invalid_argument for anything else.
std::string socket_path(const std::string& address);

}  // namespace veneer
