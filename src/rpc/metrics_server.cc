#include "rpc/metrics_server.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "base/at.h"
#include "base/error.h"

namespace veneer {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience(5);
constexpr size_t kRequestBytes = 8192;
constexpr int kBacklog = 16;
constexpr std::string_view kTextType = "text/plain; version=0.0.4; charset=utf-8";

struct HostPort {
  std::string host;
  std::string port;
};

HostPort split(const std::string& address) {
  const size_t colon = address.rfind(':');
  HostPort parts;
  if (colon != std::string::npos) {
    parts = {.host = address.substr(0, colon), .port = address.substr(colon + 1)};
    const bool is_v6 = parts.host.starts_with('[') && parts.host.ends_with(']');
    if (is_v6) parts.host = parts.host.substr(1, parts.host.size() - 2);
    if (!is_v6 && parts.host.contains(':')) parts.host.clear();
  }
  uint16_t port = 0;
  const char* const end = parts.port.data() + parts.port.size();
  const auto read = std::from_chars(parts.port.data(), end, port);
  if (parts.host.empty() || read.ec != std::errc() || read.ptr != end)
    fail(Code::invalid_argument, "\"{}\" is not an IP address, a colon and a port", address);
  return parts;
}

UniqueFd listen_on(const std::string& address) {
  const auto [host, port] = split(address);
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &wanted, &found) != 0)
    fail(Code::invalid_argument, "\"{}\" is not an IP address, a colon and a port", address);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, ::freeaddrinfo);
  UniqueFd socket(
      check(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket"));
  const int on = 1;
  check(::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "setsockopt");
  if (::bind(socket.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(socket.get(), kBacklog) != 0)
    fail_errno(errno, "listen on {}", address);
  return socket;
}

// The port that the kernel chose, where none was asked for.
std::string address_of(int socket, const std::string& asked) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  // The kernel's interface takes every kind of address as a sockaddr.
  auto* const any = reinterpret_cast<sockaddr*>(&storage);
  check(::getsockname(socket, any, &size), "getsockname");
  std::array<char, NI_MAXSERV> port{};
  if (::getnameinfo(any, size, nullptr, 0, port.data(), port.size(), NI_NUMERICSERV) != 0)
    fail(Code::io, "the port of {} is not known", asked);
  return asked.substr(0, asked.rfind(':') + 1) + port.data();
}

// False when the time is over.
bool await(int fd, short events, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    if (left.count() <= 0) return false;
    pollfd waited{.fd = fd, .events = events, .revents = 0};
    if (::poll(&waited, 1, static_cast<int>(left.count())) > 0) return true;
  }
}

// The first line, when the whole head is there. Nothing from a client that says too much, goes, or
// takes too long.
std::optional<std::string> read_request(int connection, Clock::time_point until) {
  std::string head;
  std::array<char, 1024> buffer{};
  while (!head.contains("\r\n\r\n") && !head.contains("\n\n")) {
    if (head.size() > kRequestBytes || !await(connection, POLLIN, until)) return std::nullopt;
    const ssize_t got = ::recv(connection, buffer.data(), buffer.size(), 0);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return std::nullopt;
    if (got > 0) head.append(buffer.data(), static_cast<size_t>(got));
  }
  return head.substr(0, head.find_first_of("\r\n"));
}

void send_all(int connection, std::string_view text, Clock::time_point until) {
  while (!text.empty() && await(connection, POLLOUT, until)) {
    const ssize_t sent = ::send(connection, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return;
    if (sent > 0) text.remove_prefix(static_cast<size_t>(sent));
  }
}

struct Answer {
  std::string_view status = "200 OK";
  std::string body = {};
};

std::string to_text(const Answer& answer, bool has_body) {
  const std::string_view type = answer.status.starts_with("200") ? kTextType : "text/plain";
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
      answer.status, type, answer.body.size(), has_body ? answer.body : "");
}

}  // namespace

MetricsServer::MetricsServer(const std::string& address, std::function<std::string()> text,
                             const Log& log)
    : text_(std::move(text)),
      log_(log),
      listener_(listen_on(address)),
      end_(check(::eventfd(0, EFD_CLOEXEC), "eventfd")),
      address_(address_of(listener_.get(), address)),
      thread_([this] { serve(); }) {}

MetricsServer::~MetricsServer() {
  (void)::eventfd_write(end_.get(), 1);  // it is 0, and so takes it
  thread_.join();
}

void MetricsServer::serve() const {
  for (;;) {
    std::array<pollfd, 2> waited{{{.fd = end_.get(), .events = POLLIN, .revents = 0},
                                  {.fd = listener_.get(), .events = POLLIN, .revents = 0}}};
    if (::poll(waited.data(), waited.size(), -1) < 0 && errno != EINTR) return;
    if (waited[0].revents != 0) return;
    const UniqueFd connection(
        ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection) continue;  // it went meanwhile
    try {
      answer(connection.get());
    } catch (const std::exception& error) {
      log_.write(Log::Level::error, {{"event", "metrics"}, {"error", error.what()}});
    }
  }
}

void MetricsServer::answer(int connection) const {
  const auto until = Clock::now() + kPatience;
  const std::optional<std::string> request = read_request(connection, until);
  if (!request) return;
  const size_t blank = request->find(' ');
  const std::string method = request->substr(0, blank);
  const std::string target =
      blank == std::string::npos
          ? ""
          : request->substr(blank + 1, request->find(' ', blank + 1) - blank - 1);
  Answer answer;
  if (method != "GET" && method != "HEAD") {
    answer = {.status = "405 Method Not Allowed", .body = "only GET\n"};
  } else if (target != "/metrics" && !target.starts_with("/metrics?")) {
    answer = {.status = "404 Not Found", .body = "there is only /metrics\n"};
  } else {
    try {
      answer.body = text_();
    } catch (const std::exception& error) {
      answer = {.status = "500 Internal Server Error", .body = "see the log\n"};
      log_.write(Log::Level::error, {{"event", "metrics"}, {"error", error.what()}});
    }
  }
  send_all(connection, to_text(answer, method != "HEAD"), until);
  // What the client still sends must not turn into a reset that takes the answer away.
  (void)::shutdown(connection, SHUT_WR);
}

}  // namespace veneer
