#include "rpc/metrics_server.h"

#include <utility>

#include "rpc/socket.h"

namespace veneer {

namespace {

constexpr std::chrono::seconds kRequestPatience(5);
constexpr const char* kTextType = "text/plain; version=0.0.4; charset=utf-8";

HttpAnswer answer(const HttpRequest& request, const std::function<std::string()>& text) {
  if (request.method != "GET" && request.method != "HEAD")
    return {.status = 405, .type = "text/plain", .body = "only GET\n"};
  if (request.target != "/metrics" && !request.target.starts_with("/metrics?"))
    return {.status = 404, .type = "text/plain", .body = "there is only /metrics\n"};
  return {.type = kTextType, .body = text()};
}

}  // namespace

MetricsServer::MetricsServer(const std::string& address, std::function<std::string()> text,
                             const Log& log)
    : MetricsServer(listen_tcp(address), address, std::move(text), log) {}

MetricsServer::MetricsServer(UniqueFd listener, const std::string& asked,
                             std::function<std::string()> text, const Log& log)
    : address_(tcp_address(listener.get(), asked)),
      server_(
          std::move(listener),
          [text = std::move(text)](const HttpRequest& request, HttpReply& reply) {
            reply.send(answer(request, text));
          },
          {.patience = kRequestPatience}, log) {}

}  // namespace veneer
