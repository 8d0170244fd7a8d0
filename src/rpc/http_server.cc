#include "rpc/http_server.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/buffer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http.hpp>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/limits.h"

namespace veneer {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;

// A connected socket as Beast reads and writes it, with a deadline (Asio's own synchronous calls
// have none).
class Connection {
 public:
  explicit Connection(int fd) : fd_(fd) {}

  int fd() const { return fd_; }
  void set_deadline(Deadline deadline) { deadline_ = deadline; }

  template <typename Buffers>
  size_t read_some(const Buffers& buffers, error_code& error) {
    asio::mutable_buffer room;
    for (auto at = asio::buffer_sequence_begin(buffers);
         at != asio::buffer_sequence_end(buffers) && room.size() == 0; ++at)
      room = *at;
    error = {};
    if (room.size() == 0) return 0;
    const ssize_t got = transfer(
        POLLIN, [&] { return ::recv(fd_, room.data(), room.size(), MSG_DONTWAIT); }, error);
    if (got == 0 && !error) error = asio::error::eof;
    return got > 0 ? static_cast<size_t>(got) : 0;
  }
  template <typename Buffers>
  size_t read_some(const Buffers& buffers) {
    error_code error;
    const size_t got = read_some(buffers, error);
    if (error) throw boost::system::system_error(error);
    return got;
  }

  template <typename Buffers>
  size_t write_some(const Buffers& buffers, error_code& error) {
    std::array<iovec, 16> parts{};
    size_t count = 0;
    for (auto at = asio::buffer_sequence_begin(buffers);
         at != asio::buffer_sequence_end(buffers) && count < parts.size(); ++at) {
      const asio::const_buffer part = *at;
      if (part.size() == 0) continue;
      // sendmsg(2) only reads it.
      parts.at(count++) = {.iov_base = const_cast<void*>(part.data()), .iov_len = part.size()};
    }
    error = {};
    if (count == 0) return 0;
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = count;
    const ssize_t sent = transfer(
        POLLOUT, [&] { return ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT); }, error);
    return sent > 0 ? static_cast<size_t>(sent) : 0;
  }
  template <typename Buffers>
  size_t write_some(const Buffers& buffers) {
    error_code error;
    const size_t sent = write_some(buffers, error);
    if (error) throw boost::system::system_error(error);
    return sent;
  }

 private:
  template <typename Call>
  ssize_t transfer(short events, Call call, error_code& error) {
    for (;;) {
      const ssize_t done = call();
      if (done >= 0) return done;
      if (errno == EINTR) continue;
      if (errno != EAGAIN) {
        error = error_code(errno, boost::system::system_category());
        return -1;
      }
      if (!await(events)) {
        error = asio::error::timed_out;
        return -1;
      }
    }
  }

  // False when the time is over.
  bool await(short events) const {
    int timeout_ms = -1;
    if (deadline_) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - Clock::now());
      if (left.count() <= 0) return false;
      timeout_ms = static_cast<int>(left.count());
    }
    pollfd waited{.fd = fd_, .events = events, .revents = 0};
    return ::poll(&waited, 1, timeout_ms) != 0;
  }

  int fd_;
  Deadline deadline_;
};

using Parser = http::request_parser<http::buffer_body>;

class BodySource final : public Source {
 public:
  BodySource(Connection& connection, boost::beast::flat_buffer& buffer, Parser& parser)
      : connection_(connection), buffer_(buffer), parser_(parser) {
    parser_.on_chunk_body(take_piece_);
  }
  BodySource(const BodySource&) = delete;
  BodySource& operator=(const BodySource&) = delete;

  Bytes next(Room room) override {
    if (is_broken_) fail(Code::corrupt, "the request's body broke off");
    if (parser_.is_done()) return {};
    // Beast reads as much at once as the buffer has room for, and makes it no larger.
    buffer_.reserve(kReadBytes);
    return parser_.chunked() ? next_piece() : read_into(room);
  }
  // False if it broke off.
  bool discard() {
    std::vector<std::byte> room(kChunkBytes);
    try {
      while (!next(room).empty()) continue;
      return true;
    } catch (const Error&) {
      return false;
    }
  }

 private:
  static constexpr size_t kReadBytes = 64 * 1024;  // which Beast never reads more than

  // A large body comes in chunks. What is handed out lies in the buffer.
  Bytes next_piece() {
    piece_ = {};
    while (piece_.empty() && !parser_.is_done()) {
      error_code error;
      http::read_some(connection_, buffer_, parser_, error);
      if (error) break_off(error);
    }
    return std::as_bytes(std::span(piece_.data(), piece_.size()));
  }
  Bytes read_into(Room room) {
    auto& body = parser_.get().body();
    body.data = room.data();
    body.size = room.size();
    body.more = true;
    error_code error;
    http::read(connection_, buffer_, parser_, error);
    if (error && error != http::error::need_buffer) break_off(error);
    return room.first(room.size() - body.size);
  }
  [[noreturn]] void break_off(const error_code& error) {
    is_broken_ = true;
    fail(Code::corrupt, "the request's body broke off: {}", error.message());
  }

  Connection& connection_;
  boost::beast::flat_buffer& buffer_;
  Parser& parser_;
  boost::beast::string_view piece_;
  // The parser keeps a reference.
  std::function<size_t(uint64_t, boost::beast::string_view, error_code&)> take_piece_ =
      [this](uint64_t, boost::beast::string_view piece, error_code&) {
        piece_ = piece;
        return piece.size();
      };
  bool is_broken_ = false;
};

class ConnectionReply final : public HttpReply, private Sink {
 public:
  ConnectionReply(Connection& connection, bool has_body, bool is_kept)
      : connection_(connection), has_body_(has_body), is_kept_(is_kept) {
    pending_.reserve(kChunkBytes);
  }

  void send(const HttpAnswer& answer) override {
    VENEER_CHECK(!has_begun_);
    pending_.clear();
    has_begun_ = true;
    http::response<http::string_body> response(static_cast<http::status>(answer.status), 11);
    response.set(http::field::content_type, answer.type);
    response.body() = answer.body;
    response.prepare_payload();
    if (!has_body_) response.body().clear();
    response.keep_alive(is_kept_);
    error_code error;
    http::write(connection_, response, error);
    is_done_ = !error;
  }
  Sink& stream() override { return *this; }
  void finish() override {
    flush();
    transmit(http::make_chunk_last());
    is_done_ = true;
  }
  bool has_begun() const override { return has_begun_; }

  // Whether the connection can have another request.
  bool is_reusable() const { return is_done_ && is_kept_; }

 private:
  // Small writes are gathered.
  void write(Bytes bytes) override {
    if (pending_.size() + bytes.size() > kChunkBytes) flush();
    if (bytes.size() >= kChunkBytes) return send_chunk(bytes);
    pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  }
  void flush() {
    begin();
    if (!pending_.empty()) send_chunk(pending_);
    pending_.clear();
  }
  void begin() {
    if (std::exchange(has_begun_, true)) return;
    http::response<http::empty_body> head(http::status::ok, 11);
    head.set(http::field::content_type, "application/x-tar");
    head.chunked(true);
    head.keep_alive(is_kept_);
    http::response_serializer<http::empty_body> serializer(head);
    error_code error;
    http::write_header(connection_, serializer, error);
    if (error) fail(Code::unavailable, "the client has gone: {}", error.message());
  }
  void send_chunk(Bytes bytes) {
    begin();
    transmit(http::make_chunk(asio::buffer(bytes.data(), bytes.size())));
  }
  template <typename Buffers>
  void transmit(const Buffers& buffers) {
    error_code error;
    asio::write(connection_, buffers, error);
    if (error) fail(Code::unavailable, "the client has gone: {}", error.message());
  }

  Connection& connection_;
  bool has_body_;
  bool is_kept_;
  bool has_begun_ = false;
  bool is_done_ = false;
  std::vector<std::byte> pending_;
};

// A client with a large body may wait for this before it sends it (RFC 9110, 10.1.1).
void send_continue(Connection& connection) {
  error_code ignored;  // a client that has gone has no body either
  asio::write(connection, asio::buffer(std::string_view("HTTP/1.1 100 Continue\r\n\r\n")), ignored);
}

HttpAnswer plain(unsigned status, std::string body) {
  return {.status = status, .type = "text/plain", .body = std::move(body)};
}

}  // namespace

class HttpServer::State {
 public:
  State(UniqueFd listener, HttpHandler handler, Options options, const Log& log)
      : listener_(std::move(listener)),
        wake_(check(::eventfd(0, EFD_CLOEXEC), "eventfd")),
        handler_(std::move(handler)),
        options_(options),
        log_(log),
        acceptor_([this] { accept(); }) {}

  void drain(std::chrono::milliseconds patience);

 private:
  struct Client {
    UniqueFd fd;
    bool is_busy = false;
    bool is_over = false;
    std::thread thread = {};
  };

  void accept();
  void add(UniqueFd fd);
  void join_ended();
  void serve(Client& client);
  bool serve_one(Connection& connection, boost::beast::flat_buffer& buffer, Client& client);
  void handle(const HttpRequest& request, HttpReply& reply) const;
  bool begin(Client& client);
  void end(Client& client);
  Deadline deadline() const {
    return options_.patience ? Deadline(Clock::now() + *options_.patience) : std::nullopt;
  }

  UniqueFd listener_;
  UniqueFd wake_;
  HttpHandler handler_;
  Options options_;
  const Log& log_;
  std::mutex mutex_;  // over what follows, but for a client's thread, which is the acceptor's
  std::condition_variable changed_;
  std::list<Client> clients_;
  bool is_draining_ = false;
  std::thread acceptor_;  // the last: it uses the others
};

void HttpServer::State::accept() {
  for (;;) {
    std::array<pollfd, 2> waited{{{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                                  {.fd = listener_.get(), .events = POLLIN, .revents = 0}}};
    if (::poll(waited.data(), waited.size(), -1) < 0 && errno != EINTR) return;
    if (waited[0].revents != 0) return;
    UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    join_ended();
    if (!fd) {
      // It went meanwhile; or there are no more descriptors, which some end gives back.
      if (errno == EMFILE || errno == ENFILE) std::this_thread::sleep_for(std::chrono::seconds(1));
      continue;
    }
    try {
      add(std::move(fd));
    } catch (const std::exception& error) {
      log_.write(Log::Level::error, {{"event", "connection"}, {"error", error.what()}});
    }
  }
}

void HttpServer::State::add(UniqueFd fd) {
  const std::scoped_lock lock(mutex_);
  if (clients_.size() >= limits::kHttpConnections) {
    Connection connection(fd.get());
    connection.set_deadline(Clock::now());  // what does not fit into the socket is not worth a wait
    ConnectionReply(connection, true, false).send(plain(503, "too many connections\n"));
    return;
  }
  Client& client = clients_.emplace_back();
  client.fd = std::move(fd);
  try {
    client.thread = std::thread([this, &client] { serve(client); });
  } catch (...) {
    clients_.pop_back();
    throw;
  }
}

void HttpServer::State::join_ended() {
  std::list<Client> ended;
  {
    const std::scoped_lock lock(mutex_);
    for (auto at = clients_.begin(); at != clients_.end();) {
      const auto next = std::next(at);
      if (at->is_over) ended.splice(ended.end(), clients_, at);
      at = next;
    }
  }
  for (Client& client : ended) client.thread.join();
}

void HttpServer::State::serve(Client& client) {
  Connection connection(client.fd.get());
  boost::beast::flat_buffer buffer;
  try {
    while (serve_one(connection, buffer, client)) continue;
  } catch (const std::exception& error) {
    log_.write(Log::Level::error, {{"event", "connection"}, {"error", error.what()}});
  }
  // The client sees the end now, not when the thread is joined.
  (void)::shutdown(client.fd.get(), SHUT_RDWR);
  const std::scoped_lock lock(mutex_);
  client.is_busy = false;
  client.is_over = true;
  changed_.notify_all();
}

// False for the last one.
bool HttpServer::State::serve_one(Connection& connection, boost::beast::flat_buffer& buffer,
                                  Client& client) {
  Parser parser;
  parser.header_limit(limits::kHttpHeadBytes);
  parser.body_limit(UINT64_MAX);  // the handlers have theirs
  connection.set_deadline(deadline());
  error_code error;
  const size_t head_bytes = http::read_header(connection, buffer, parser, error);
  // Beast lets one byte more pass.
  if (!error && head_bytes > limits::kHttpHeadBytes) error = http::error::header_limit;
  if (error && error.category() != http::make_error_code(http::error::bad_method).category())
    return false;  // gone, or silent for too long
  if (error == http::error::end_of_stream || error == http::error::partial_message) return false;
  if (!begin(client)) return false;
  if (error) {
    const bool is_long = error == http::error::header_limit;
    ConnectionReply(connection, true, false)
        .send(plain(is_long ? 431 : 400, error.message() + "\n"));
    return false;
  }
  const auto& head = parser.get();
  const std::string method(head.method_string());
  const std::string target(head.target());
  ConnectionReply reply(connection, method != "HEAD", parser.keep_alive() && head.version() == 11);
  BodySource body(connection, buffer, parser);
  // The body is read in any case.
  if (boost::beast::iequals(head[http::field::expect], "100-continue") && head.version() == 11)
    send_continue(connection);
  handle({.method = method, .target = target, .body = body}, reply);
  const bool is_whole = body.discard();
  end(client);
  return is_whole && reply.is_reusable();
}

void HttpServer::State::handle(const HttpRequest& request, HttpReply& reply) const {
  std::string why = "no answer";
  try {
    handler_(request, reply);
    if (reply.has_begun()) return;
  } catch (const std::exception& error) {
    why = error.what();
  }
  log_.write(Log::Level::error,
             {{"event", "request"}, {"target", std::string(request.target)}, {"error", why}});
  if (!reply.has_begun()) reply.send(plain(500, "see the log\n"));
}

bool HttpServer::State::begin(Client& client) {
  const std::scoped_lock lock(mutex_);
  client.is_busy = !is_draining_;
  return client.is_busy;
}

void HttpServer::State::end(Client& client) {
  const std::scoped_lock lock(mutex_);
  client.is_busy = false;
  if (is_draining_) (void)::shutdown(client.fd.get(), SHUT_RDWR);
  changed_.notify_all();
}

void HttpServer::State::drain(std::chrono::milliseconds patience) {
  {
    std::unique_lock lock(mutex_);
    if (std::exchange(is_draining_, true)) return;
    for (Client& client : clients_)
      if (!client.is_busy) (void)::shutdown(client.fd.get(), SHUT_RDWR);
    (void)changed_.wait_for(lock, patience, [this] {
      return std::ranges::none_of(clients_, [](const Client& client) { return client.is_busy; });
    });
    for (Client& client : clients_) (void)::shutdown(client.fd.get(), SHUT_RDWR);
  }
  (void)::eventfd_write(wake_.get(), 1);  // it is 0, and so takes it
  acceptor_.join();
  listener_.reset();
  // Nobody adds any more. One that was added since loses its connection too.
  for (Client& client : clients_) {
    (void)::shutdown(client.fd.get(), SHUT_RDWR);
    client.thread.join();
  }
  clients_.clear();
}

HttpServer::HttpServer(UniqueFd listener, HttpHandler handler, Options options, const Log& log)
    : state_(std::make_unique<State>(std::move(listener), std::move(handler), options, log)) {}

HttpServer::~HttpServer() {
  drain(std::chrono::milliseconds(0));
}

void HttpServer::drain(std::chrono::milliseconds patience) {
  state_->drain(patience);
}

}  // namespace veneer
