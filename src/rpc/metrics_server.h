// The daemon's metrics over HTTP: a GET of /metrics, one connection after another, and nothing
// else.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "base/fd.h"
#include "rpc/log.h"

namespace veneer {

// Serves on a thread of its own as long as it lives. A client has a few seconds to ask and to take
// the answer, so that the next one's turn comes. There is no TLS and no password: the address is
// for the loopback interface, or for a network of those who may read it.
class MetricsServer {
 public:
  // `address` is "127.0.0.1:9100" or "[::1]:9100"; port 0 is any free one. `text` is called for
  // each GET; what it throws is logged, and the client gets status 500. invalid_argument for
  // another address, unavailable for one that is taken. `log` outlives the server.
  MetricsServer(const std::string& address, std::function<std::string()> text, const Log& log);
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;
  ~MetricsServer();

  // With the port that it has.
  const std::string& address() const { return address_; }

 private:
  void serve() const;
  void answer(int connection) const;

  std::function<std::string()> text_;
  const Log& log_;
  UniqueFd listener_;
  UniqueFd end_;  // an eventfd
  std::string address_;
  std::thread thread_;
};

}  // namespace veneer
