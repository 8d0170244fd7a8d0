// Docker's graph-driver plugin over a real socket: the suite of all drivers through it, the bytes
// that Docker sends, hostile requests, torn layers.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "base/limits.h"
#include "graphdriver/registry.h"
#include "rpc/http_server.h"
#include "rpc/plugin_service.h"
#include "rpc/socket.h"
#include "tests/support/layer_tar.h"
#include "tests/support/tree.h"

namespace veneer {
namespace {

using test::LayerTar;

UniqueFd connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket(check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  check(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
        "connect");
  return socket;
}

void send_text(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0) return;  // the server has said all it will
    text.remove_prefix(static_cast<size_t>(sent));
  }
}

// Reads answers of one connection.
class Answers {
 public:
  explicit Answers(int fd) : fd_(fd) {}

  struct Answer {
    std::string head;
    std::string body;
    bool is_whole = false;
  };
  Answer next() {
    Answer answer;
    size_t end = 0;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos)
      if (!fill()) return answer;
    answer.head = take(end + 4);
    if (answer.head.contains("Transfer-Encoding: chunked")) {
      answer.is_whole = read_chunks(answer.body);
      return answer;
    }
    const std::string key = "Content-Length: ";
    size_t size = 0;
    if (const size_t at = answer.head.find(key); at != std::string::npos)
      std::from_chars(&answer.head[at + key.size()], answer.head.data() + answer.head.size(), size);
    while (buffer_.size() < size)
      if (!fill()) return answer;
    answer.body = take(size);
    answer.is_whole = true;
    return answer;
  }
  bool is_at_end() { return buffer_.empty() && !fill(); }

 private:
  bool fill() {
    std::array<char, 65536> room{};
    const ssize_t got = ::recv(fd_, room.data(), room.size(), 0);
    if (got > 0) buffer_.append(room.data(), static_cast<size_t>(got));
    return got > 0;
  }
  std::string take(size_t size) {
    std::string taken = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return taken;
  }
  bool read_chunks(std::string& body) {
    for (;;) {
      size_t end = 0;
      while ((end = buffer_.find("\r\n")) == std::string::npos)
        if (!fill()) return false;
      size_t size = 0;
      std::from_chars(buffer_.data(), buffer_.data() + end, size, 16);
      (void)take(end + 2);
      while (buffer_.size() < size + 2)
        if (!fill()) return false;
      body += take(size);
      (void)take(2);
      if (size == 0) return true;
    }
  }

  int fd_;
  std::string buffer_;
};

// As Go's client writes them.
constexpr std::string_view kHeaders =
    "Host: \r\nUser-Agent: Go-http-client/1.1\r\n"
    "Accept: application/vnd.docker.plugins.v1.2+json\r\n";

std::string post(const std::string& method, const std::string& body) {
  return fmt::format("POST /{} HTTP/1.1\r\n{}Content-Length: {}\r\n\r\n{}", method, kHeaders,
                     body.size(), body);
}

std::string chunk(std::string_view bytes) {
  return fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
}

std::string apply_head(const std::string& id, const std::string& parent) {
  return fmt::format(
      "POST /GraphDriver.ApplyDiff?id={}&parent={} HTTP/1.1\r\n{}Transfer-Encoding: "
      "chunked\r\n\r\n",
      id, parent, kHeaders);
}

struct Served {
  Served(const std::string& scratch, const std::string& driver, const std::string& home = "")
      : path(scratch + "/p.sock"),
        place(path),
        server(listen_unix(path),
               make_plugin_service(
                   {.driver = driver, .run = scratch + "/run", .home = home, .place = path}, {log}),
               {}, log) {}

  Log log;
  std::string path;
  SocketPlace place;
  HttpServer server;
};

class Plugin : public testing::TestWithParam<const char*> {
 protected:
  Plugin() { start(); }
  ~Plugin() override {
    for (const char* const id : {"c", "child", "top", "base", "abc"}) call("Remove", id);
  }

  void start(const std::string& home = "") {
    served_.reset();
    served_.emplace(scratch_.path(), GetParam(), home);
    connection_ = connect_to(served_->path);
    answers_.emplace(connection_.get());
  }
  // The body of the answer.
  std::string ask(const std::string& request) {
    send_text(connection_.get(), request);
    return answers_->next().body;
  }
  std::string call(const std::string& method, const std::string& id,
                   const std::string& parent = "") {
    return ask(post("GraphDriver." + method, fmt::format(R"({{"ID":"{}","Parent":"{}"}})"
                                                         "\n",
                                                         id, parent)));
  }
  std::string init() {
    return ask(post("GraphDriver.Init", fmt::format(R"({{"Home":"{}/home","Opts":null}})"
                                                    "\n",
                                                    scratch_.path())));
  }
  std::string apply(const std::string& id, const std::string& parent, const std::string& tar) {
    return ask(apply_head(id, parent) + (tar.empty() ? "" : chunk(tar)) + chunk(""));
  }
  std::string layer() {
    LayerTar tar;
    tar.dir("d").file("d/one", "1").file("f", "base");
    return tar.bytes();
  }

  test::Scratch scratch_;
  std::optional<Served> served_;
  UniqueFd connection_;
  std::optional<Answers> answers_;
};

// The three requests on one connection, byte for byte.
TEST_P(Plugin, TakesWhatDockerSends) {
  const std::string agent = "User-Agent: Go-http-client/1.1\r\n";
  const std::string accept = "Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n";
  EXPECT_EQ(ask("POST /Plugin.Activate HTTP/1.1\r\nHost: \r\n" + agent + "Content-Length: 0\r\n" +
                accept),
            "{\"Implements\":[\"GraphDriver\"]}\n");
  const std::string body = fmt::format("{{\"Home\":\"{}/x\",\"Opts\":null}}\n", scratch_.path());
  EXPECT_EQ(ask(fmt::format("POST /GraphDriver.Init HTTP/1.1\r\nHost: \r\n{}Content-Length: {}\r\n",
                            agent, body.size()) +
                accept + body),
            "{}\n");
  EXPECT_EQ(call("Create", "abc"), "{}\n");
  const std::string answer =
      ask("POST /GraphDriver.ApplyDiff?id=abc&parent= HTTP/1.1\r\nHost: \r\n" + agent +
          "Transfer-Encoding: chunked\r\n" + accept + "8\r\nTARBYTES\r\n0\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("{\"Err\":\"")) << answer;
}

TEST_P(Plugin, AnswersInItsShapes) {
  EXPECT_TRUE(call("Create", "abc").contains("no Init")) << call("Create", "abc");
  EXPECT_EQ(init(), "{}\n");
  EXPECT_EQ(call("Create", "base"), "{}\n");
  EXPECT_EQ(apply("base", "", layer()), "{\"Size\":5}\n");
  EXPECT_EQ(call("Exists", "base"), "{\"Exists\":true}\n");
  EXPECT_EQ(call("Exists", "abc"), "{\"Exists\":false}\n");
  EXPECT_EQ(call("CreateReadWrite", "c", "base"), "{}\n");
  const std::string got = call("Get", "c");
  ASSERT_TRUE(got.starts_with("{\"Dir\":\"/")) << got;
  {
    const UniqueFd root = open_root(got.substr(8, got.size() - 11));
    write_file_at(root.get(), "new", "12", 0644);
    unlink_at(root.get(), "f");
    (void)remove_tree_at(root.get(), "d/one");
  }
  EXPECT_EQ(call("Changes", "c", "base"),
            "{\"Changes\":[{\"Kind\":0,\"Path\":\"/d\"},{\"Kind\":2,\"Path\":\"/d/one\"},"
            "{\"Kind\":2,\"Path\":\"/f\"},{\"Kind\":1,\"Path\":\"/new\"}]}\n");
  EXPECT_EQ(call("DiffSize", "c", "base"), "{\"Size\":2}\n");
  EXPECT_TRUE(call("GetMetadata", "c").starts_with("{\"Metadata\":{\""));
  EXPECT_TRUE(ask(post("GraphDriver.Status", "{}\n")).starts_with("{\"Status\":[[\""));
  EXPECT_EQ(ask(post("GraphDriver.Capabilities", "{}\n")),
            fmt::format("{{\"Capabilities\":{{\"ReproducesExactDiffs\":{}}}}}\n",
                        GetParam() == std::string("veneer")));
  EXPECT_EQ(call("Put", "c"), "{}\n");
  EXPECT_EQ(call("Put", "c"), "{}\n");  // of a former life
  EXPECT_EQ(call("Remove", "c"), "{}\n");
  EXPECT_EQ(call("Remove", "c"), "{}\n");
  EXPECT_EQ(ask(post("GraphDriver.Cleanup", "{}\n")), "{}\n");
  EXPECT_TRUE(call("Get", "c").starts_with("{\"Err\":\""));
  EXPECT_TRUE(ask(post("GraphDriver.CreateReadWrite",
                       R"({"ID":"c","Parent":"base","StorageOpt":{"size":"50M"}})"))
                  .contains("unknown storage option \\\"size\\\""));
}

TEST_P(Plugin, DiffIsTheTar) {
  init();
  call("Create", "base");
  apply("base", "", layer());
  send_text(connection_.get(), post("GraphDriver.Diff", R"({"ID":"base"})"));
  const Answers::Answer answer = answers_->next();
  EXPECT_TRUE(answer.head.starts_with("HTTP/1.1 200 "));
  EXPECT_TRUE(answer.is_whole);
  if (GetParam() == std::string("veneer")) {
    EXPECT_EQ(answer.body, layer());
  }
  // Its errors have no place in the body.
  send_text(connection_.get(), post("GraphDriver.Diff", R"({"ID":"abc"})"));
  const Answers::Answer none = answers_->next();
  EXPECT_TRUE(none.head.starts_with("HTTP/1.1 500 ")) << none.head;
  EXPECT_TRUE(none.body.starts_with("{\"Err\":\"")) << none.body;
}

TEST_P(Plugin, ALayerThatWasCreatedIsWritableUntilItHasChildren) {
  init();
  call("Create", "base");
  const std::string got = call("Get", "base");
  write_file_at(open_root(got.substr(8, got.size() - 11)).get(), "made", "1", 0644);
  call("Put", "base");
  EXPECT_EQ(call("Create", "child", "base"), "{}\n");
  EXPECT_EQ(call("DiffSize", "base"), "{\"Size\":1}\n");
  call("Remove", "child");
}

// Docker sends the rest of a body again when its connection breaks.
TEST_P(Plugin, ATornLayerLeavesNothing) {
  init();
  call("Create", "base");
  const std::string tar = layer();
  {
    const UniqueFd other = connect_to(served_->path);
    send_text(other.get(), apply_head("base", "") + chunk(tar.substr(0, 1024)));
    check(::shutdown(other.get(), SHUT_WR), "shutdown");
    EXPECT_TRUE(Answers(other.get()).next().body.contains("broke off"));
  }
  // The mark stays, also for the next process.
  EXPECT_TRUE(apply("base", "", tar).contains("cut off"));
  start();
  EXPECT_TRUE(apply("base", "", tar).contains("cut off"));
  EXPECT_EQ(call("Changes", "base"), "{\"Changes\":[]}\n");
  call("Remove", "base");
  call("Create", "base");
  // Whole bodies, of no whole tar.
  for (const std::string& part :
       {std::string(), tar.substr(0, 1536), tar.substr(1024), tar.substr(0, tar.size() - 1024)}) {
    const std::string answer = apply("base", "", part);
    EXPECT_TRUE(answer.starts_with("{\"Err\":\"")) << part.size() << answer;
  }
  EXPECT_EQ(apply("base", "", tar), "{\"Size\":5}\n");
}

// What follows the end marker belongs to the layer, zeros or not; a marker in a file's content ends
// nothing.
TEST_P(Plugin, ATarMayGoOnAfterItsEnd) {
  init();
  call("Create", "base");
  const std::string tar = layer() + std::string(700, 'x');
  EXPECT_EQ(apply("base", "", tar), "{\"Size\":5}\n");
  if (GetParam() == std::string("veneer")) {
    send_text(connection_.get(), post("GraphDriver.Diff", R"({"ID":"base"})"));
    EXPECT_EQ(answers_->next().body, tar);
  }
  call("Create", "c");
  LayerTar zeros;
  zeros.file("zeros", std::string(4096, '\0'));
  const std::string open = zeros.bytes().substr(0, 512 + 4096);
  EXPECT_TRUE(apply("c", "", open).contains("has no end"));
  EXPECT_TRUE(apply("c", "", open + std::string(512, '\0')).contains("has no end"));
  EXPECT_EQ(apply("c", "", zeros.bytes()), "{\"Size\":4096}\n");
}

// As curl does with a large body.
TEST_P(Plugin, AClientMayWaitForTheBody) {
  init();
  call("Create", "base");
  std::string head = apply_head("base", "");
  head.insert(head.size() - 2, "Expect: 100-continue\r\n");
  send_text(connection_.get(), head);
  EXPECT_EQ(answers_->next().head, "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(ask(chunk(layer()) + chunk("")), "{\"Size\":5}\n");
  // Also where the answer is an error before the body.
  head.replace(head.find("id=base"), 7, "id=none");
  send_text(connection_.get(), head);
  EXPECT_EQ(answers_->next().head, "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_TRUE(ask(chunk(layer()) + chunk("")).starts_with("{\"Err\":\""));
  EXPECT_EQ(call("Exists", "base"), "{\"Exists\":true}\n");
}

TEST_P(Plugin, ARestartedOneKnowsItsHome) {
  init();
  call("Create", "base");
  start();
  EXPECT_EQ(call("Exists", "base"), "{\"Exists\":true}\n");
  // The given one counts more.
  start(scratch_.path() + "/other");
  EXPECT_EQ(call("Exists", "base"), "{\"Exists\":false}\n");
  EXPECT_EQ(init(), "{}\n");
  EXPECT_EQ(call("Exists", "base"), "{\"Exists\":false}\n");
  start();
  EXPECT_EQ(call("Remove", "base"), "{}\n");
}

TEST_P(Plugin, HostileRequestsAreAnswered) {
  init();
  for (const char* const bad :
       {"", "{", "[]", "1", "null", "{\"ID\":1}", "{\"ID\":{}}", "{\"StorageOpt\":[]}",
        "{\"StorageOpt\":{\"a\":1}}", "{\"ID\":\"..\"}", "{\"ID\":\"a/b\"}", "{\"ID\":\"\"}",
        "{\"ID\":\"a\\u0000b\"}", "{\"ID\":\"\xff\"}"})
    EXPECT_TRUE(ask(post("GraphDriver.Get", bad)).starts_with("{\"Err\":\"")) << bad;
  for (const char* const bad :
       {"{}", "{\"Home\":\"relative\"}", "{\"Home\":7}", "{\"Home\":\"/x\",\"Opts\":[1]}",
        "{\"Home\":\"/x\",\"Opts\":{}}", "{\"Home\":\"/x\",\"UIDMaps\":[1]}",
        "{\"Home\":\"/x\",\"UIDMaps\":[{\"container_id\":-1}]}",
        "{\"Home\":\"/x\",\"UIDMaps\":[{\"container_id\":0,\"host_id\":4294967296,\"size\":1}]}",
        "{\"Home\":\"/x\",\"Opts\":[\"veneer.speed=9\"]}"})
    EXPECT_TRUE(ask(post("GraphDriver.Init", bad)).starts_with("{\"Err\":\"")) << bad;
  EXPECT_TRUE(ask(post("GraphDriver.Get", std::string(100000, '['))).starts_with("{\"Err\":\""));
  const std::string filler(limits::kPluginJsonBytes - 12, ' ');
  EXPECT_TRUE(ask(post("GraphDriver.Exists", R"({"ID":"abc")" + filler + "}")).contains("Exists"));
  EXPECT_TRUE(ask(post("GraphDriver.Exists", R"({"ID":"abcd")" + filler + "}")).contains("Err"));
  for (const char* const id : {"..", "%2e%2e", "", "a/b"})
    EXPECT_TRUE(apply(id, "", layer()).starts_with("{\"Err\":\"")) << id;
  send_text(connection_.get(), post("GraphDriver.Nothing", "{}"));
  EXPECT_TRUE(answers_->next().head.starts_with("HTTP/1.1 404 "));
  send_text(connection_.get(), post("x", "{}"));
  EXPECT_TRUE(answers_->next().head.starts_with("HTTP/1.1 404 "));
  send_text(connection_.get(), "GET /GraphDriver.Status HTTP/1.1\r\n\r\n");
  EXPECT_TRUE(answers_->next().head.starts_with("HTTP/1.1 405 "));
  EXPECT_EQ(call("Exists", "abc"), "{\"Exists\":false}\n");  // on the same connection
}

TEST_P(Plugin, WhatIsNoHttpEndsTheConnection) {
  for (const std::string& bad :
       {std::string("nonsense\r\n\r\n"), std::string("POST / HTTP/9.9\r\n\r\n"),
        "POST /" + std::string(2 * limits::kHttpHeadBytes, 'x') + " HTTP/1.1\r\n\r\n",
        std::string("POST /GraphDriver.Get HTTP/1.1\r\nContent-Length: x\r\n\r\n")}) {
    const UniqueFd other = connect_to(served_->path);
    send_text(other.get(), bad);
    Answers answers(other.get());
    const std::string head = answers.next().head;
    EXPECT_TRUE(head.starts_with("HTTP/1.1 4")) << bad.substr(0, 50) << head;
    EXPECT_TRUE(answers.is_at_end());
  }
}

TEST_P(Plugin, HeadsAreLimited) {
  for (const size_t size : {limits::kHttpHeadBytes, limits::kHttpHeadBytes + 1}) {
    const std::string start = "GET /Plugin.Activate HTTP/1.1\r\nx: ";
    const std::string end = "\r\n\r\n";
    const UniqueFd other = connect_to(served_->path);
    send_text(other.get(), start + std::string(size - start.size() - end.size(), 'x') + end);
    const std::string head = Answers(other.get()).next().head;
    const bool is_allowed = size == limits::kHttpHeadBytes;
    EXPECT_TRUE(head.starts_with(is_allowed ? "HTTP/1.1 405 " : "HTTP/1.1 431 ")) << size << head;
  }
}

TEST_P(Plugin, ConnectionsAreLimited) {
  std::vector<UniqueFd> connections;
  for (size_t i = 1; i < limits::kHttpConnections; ++i)
    connections.push_back(connect_to(served_->path));
  const std::string request = post("Plugin.Activate", "");
  send_text(connections.back().get(), request);
  EXPECT_TRUE(Answers(connections.back().get()).next().head.starts_with("HTTP/1.1 200 "));
  const UniqueFd extra = connect_to(served_->path);
  EXPECT_TRUE(Answers(extra.get()).next().head.starts_with("HTTP/1.1 503 "));
  connections.clear();
  for (int i = 0; i < 500; ++i) {
    const UniqueFd again = connect_to(served_->path);
    send_text(again.get(), request);
    if (Answers(again.get()).next().head.starts_with("HTTP/1.1 200 ")) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ADD_FAILURE() << "no place becomes free";
}

// As `docker commit` does: the answer of one call is the body of another.
TEST_P(Plugin, ADiffFeedsAnApply) {
  init();
  call("Create", "base");
  apply("base", "", layer());
  call("CreateReadWrite", "c", "base");
  const std::string got = call("Get", "c");
  write_file_at(open_root(got.substr(8, got.size() - 11)).get(), "big", std::string(3 << 20, 'b'),
                0644);
  call("Create", "top", "base");
  const UniqueFd reader = connect_to(served_->path);
  send_text(reader.get(), post("GraphDriver.Diff", R"({"ID":"c","Parent":"base"})"));
  send_text(connection_.get(), apply_head("top", "base"));
  const std::string tar = Answers(reader.get()).next().body;
  for (size_t at = 0; at < tar.size(); at += 1000)
    send_text(connection_.get(), chunk(std::string_view(tar).substr(at, 1000)));
  EXPECT_EQ(ask(chunk("")), "{\"Size\":3145728}\n");
  call("Put", "c");
}

INSTANTIATE_TEST_SUITE_P(Drivers, Plugin, testing::Values("veneer", "overlay"));

}  // namespace
}  // namespace veneer
