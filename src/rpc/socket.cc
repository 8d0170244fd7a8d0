#include "rpc/socket.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/at.h"
#include "base/error.h"
#include "base/lock.h"

namespace veneer {

namespace {

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

}  // namespace

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

UniqueFd listen_unix(const std::string& path) {
  const sockaddr_un address = address_of(path);
  UniqueFd socket(check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  chmod_fd(socket.get(), 0600);  // what bind(2) gives the file that it makes
  const auto* const any = reinterpret_cast<const sockaddr*>(&address);
  check(::bind(socket.get(), any, sizeof(address)), "bind to {}", path);
  check(::listen(socket.get(), SOMAXCONN), "listen on {}", path);
  return socket;
}

UniqueFd listen_tcp(const std::string& address) {
  const auto [host, port] = split(address);
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), port.c_str(), &wanted, &found) != 0)
    fail(Code::invalid_argument, "\"{}\" is not an IP address, a colon and a port", address);
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, ::freeaddrinfo);
  UniqueFd socket(check(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  const int on = 1;
  check(::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "setsockopt");
  if (::bind(socket.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(socket.get(), SOMAXCONN) != 0)
    fail_errno(errno, "listen on {}", address);
  return socket;
}

std::string tcp_address(int listener, const std::string& asked) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  auto* const any = reinterpret_cast<sockaddr*>(&storage);
  check(::getsockname(listener, any, &size), "getsockname");
  std::array<char, NI_MAXSERV> port{};
  if (::getnameinfo(any, size, nullptr, 0, port.data(), port.size(), NI_NUMERICSERV) != 0)
    fail(Code::io, "the port of {} is not known", asked);
  return asked.substr(0, asked.rfind(':') + 1) + port.data();
}

std::string socket_path(const std::string& address) {
  const std::string path =
      address.starts_with(kUnixScheme) ? address.substr(kUnixScheme.size()) : std::string();
  if (!path.starts_with('/') || path.ends_with('/') || path.contains('\0'))
    fail(Code::invalid_argument, "\"{}\" is not unix:// and an absolute path", address);
  (void)address_of(path);
  return path;
}

}  // namespace veneer
