// A small HTTP/1.1 server on one listening socket: requests with streamed bodies, answers whole or
// streamed.
//
// Each connection has a thread, so that calls are concurrent and may feed each other; beyond
// limits::kHttpConnections a connection is answered 503 and closed. Connections are kept alive. A
// Host header may be empty or absent.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "rpc/log.h"
#include "stream/stream.h"

namespace veneer {

struct HttpRequest {
  std::string_view method;
  std::string_view target;
  // Throws corrupt when the client breaks off or sends what is no body. What the handler leaves is
  // read and thrown away after the answer.
  Source& body;
};

struct HttpAnswer {
  unsigned status = 200;
  std::string type = "application/json";
  std::string body = {};
};

class HttpReply {
 public:
  virtual ~HttpReply() = default;
  // The whole answer, once.
  virtual void send(const HttpAnswer& answer) = 0;
  // A body with status 200 whose length is not known: write() sends it in chunks, and throws
  // unavailable when the client has gone. finish() ends it. Until has_begun() there is no byte of
  // an answer, and send() can still take its place; after that an answer that is not finished ends
  // with the connection, by which the client knows.
  virtual Sink& stream() = 0;
  virtual void finish() = 0;
  virtual bool has_begun() const = 0;
};

// Runs on the connections' threads. A request that it has not answered, or that it threw for, ends
// with status 500, or with the connection if the answer has begun.
using HttpHandler = std::function<void(const HttpRequest&, HttpReply&)>;

class HttpServer {
 public:
  // `patience` is how long a request may take to arrive, its silence before included, and then how
  // long its answer may take to leave. Without it there is no limit: for clients that are trusted.
  struct Options {
    std::optional<std::chrono::milliseconds> patience = {};
  };

  // Serves from now on. `log` outlives it.
  HttpServer(UniqueFd listener, HttpHandler handler, Options options, const Log& log);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();  // drains with no patience

  // Takes no more requests and waits for those that run. What has not come to its end in time loses
  // its connection, and is waited for.
  void drain(std::chrono::milliseconds patience);

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace veneer
