// The daemon's metrics over HTTP: a GET of /metrics, and nothing else.
#pragma once

#include <functional>
#include <string>

#include "rpc/http_server.h"
#include "rpc/log.h"

namespace veneer {

// Serves as long as it lives. A client has a few seconds to ask, and to take the answer. There is
// no TLS and no password: the address is for the loopback interface, or for a network of those who
// may read it.
class MetricsServer {
 public:
  // `address` is "127.0.0.1:9100" or "[::1]:9100"; port 0 is any free one. `text` is called for
  // each GET, by several threads; what it throws is logged, and the client gets status 500.
  // invalid_argument for another address. `log` outlives the server.
  MetricsServer(const std::string& address, std::function<std::string()> text, const Log& log);

  // With the port that it has.
  const std::string& address() const { return address_; }

 private:
  MetricsServer(UniqueFd listener, const std::string& asked, std::function<std::string()> text,
                const Log& log);

  std::string address_;
  HttpServer server_;
};

}  // namespace veneer
