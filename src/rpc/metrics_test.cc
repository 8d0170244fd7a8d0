#include "rpc/metrics.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <stdexcept>

#include "base/at.h"
#include "base/error.h"
#include "rpc/metrics_server.h"

namespace veneer {
namespace {

std::string line_of(const std::string& text, const std::string& start) {
  const size_t at = text.find("\n" + start + " ");
  if (at == std::string::npos) return "none";
  return text.substr(at + start.size() + 2, text.find('\n', at + 1) - at - start.size() - 2);
}

TEST(Metrics, CountsCallsByTheirAnswersAndTimes) {
  Metrics metrics;
  metrics.add_call("Prepare", "OK", .0005);
  metrics.add_call("Prepare", "OK", .001);  // a bound is in its bucket
  metrics.add_call("Prepare", "NOT_FOUND", 1000);
  metrics.add_call("Apply", "OK", 2.5);
  const std::string text = metrics.text();
  EXPECT_EQ(line_of(text, R"(veneer_calls_total{call="Prepare",code="OK"})"), "2");
  EXPECT_EQ(line_of(text, R"(veneer_calls_total{call="Prepare",code="NOT_FOUND"})"), "1");
  EXPECT_EQ(line_of(text, R"(veneer_call_seconds_bucket{call="Prepare",le="0.001"})"), "2");
  EXPECT_EQ(line_of(text, R"(veneer_call_seconds_bucket{call="Prepare",le="300"})"), "2");
  EXPECT_EQ(line_of(text, R"(veneer_call_seconds_bucket{call="Prepare",le="+Inf"})"), "3");
  EXPECT_EQ(line_of(text, R"(veneer_call_seconds_count{call="Prepare"})"), "3");
  EXPECT_EQ(line_of(text, R"(veneer_call_seconds_bucket{call="Apply",le="2"})"), "0");
  EXPECT_EQ(line_of(text, R"(veneer_call_seconds_bucket{call="Apply",le="5"})"), "1");
  EXPECT_EQ(line_of(text, R"(veneer_call_seconds_sum{call="Apply"})"), "2.5");
  EXPECT_TRUE(text.ends_with('\n'));
}

TEST(Metrics, CountsImportsByWhereTheyCameFrom) {
  Metrics metrics;
  const auto layer = [](uint64_t size_bytes, bool was_read, Import::Times times) {
    return AppliedLayer{
        .diff_id = {}, .size_bytes = size_bytes, .was_read = was_read, .times = times};
  };
  metrics.add_import(layer(1000, true, {.read = 4, .settle = 1}), .5);  // ahead of its call
  metrics.add_import(layer(24, true, {.read = .25, .settle = .125}), .25);
  metrics.add_import(layer(7, false, {}), 0);
  const std::string text = metrics.text();
  EXPECT_EQ(line_of(text, R"(veneer_import_layers_total{from="blob"})"), "2");
  EXPECT_EQ(line_of(text, R"(veneer_import_bytes_total{from="blob"})"), "1024");
  EXPECT_EQ(line_of(text, R"(veneer_import_seconds_total{from="blob"})"), "0.75");
  EXPECT_EQ(line_of(text, R"(veneer_import_bytes_total{from="store"})"), "7");
  EXPECT_EQ(line_of(text, R"(veneer_import_stage_seconds_total{stage="read"})"), "4.25");
  EXPECT_EQ(line_of(text, R"(veneer_import_stage_seconds_total{stage="settle"})"), "1.125");
}

class MetricsHttp : public testing::Test {
 protected:
  static std::string text() {
    if (is_broken_) throw std::runtime_error("broken");
    return "some 1\n";
  }
  UniqueFd connect() const {
    const std::string& address = server_.address();
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    UniqueFd socket(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
    check(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), "connect");
    return socket;
  }
  std::string ask(const std::string& request) const {
    const UniqueFd socket = connect();
    write_all(socket.get(), std::as_bytes(std::span(request)));
    std::string answer;
    std::array<std::byte, 4096> buffer{};
    while (const size_t got = read_some(socket.get(), buffer))
      answer.append(reinterpret_cast<const char*>(buffer.data()), got);
    return answer;
  }

  inline static bool is_broken_ = false;
  Log log_;
  MetricsServer server_{"127.0.0.1:0", text, log_};
};

TEST_F(MetricsHttp, AnswersGets) {
  const std::string answer = ask("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
  EXPECT_TRUE(answer.contains("\r\nContent-Length: 7\r\n"));
  EXPECT_TRUE(answer.contains("text/plain; version=0.0.4"));
  EXPECT_TRUE(answer.ends_with("\r\n\r\nsome 1\n"));
  EXPECT_TRUE(ask("HEAD /metrics HTTP/1.1\r\nConnection: close\r\n\r\n").ends_with("\r\n\r\n"));
  EXPECT_TRUE(ask("GET /metrics?x HTTP/1.0\r\n\r\n").contains("some 1"));
}

TEST_F(MetricsHttp, AnswersNothingElse) {
  EXPECT_TRUE(ask("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(
      ask("POST /metrics HTTP/1.1\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 405 "));
  EXPECT_TRUE(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(ask("GET\r\n\r\n").starts_with("HTTP/1.1 400 "));
  is_broken_ = true;
  EXPECT_TRUE(
      ask("GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 500 "));
  is_broken_ = false;
  (void)connect();  // says nothing and goes
  EXPECT_TRUE(ask("GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n").contains("some 1"));
}

TEST_F(MetricsHttp, ATooLongRequestIsCutOff) {
  const UniqueFd socket = connect();
  const std::string line(64 << 10, 'x');
  (void)::send(socket.get(), line.data(), line.size(), MSG_NOSIGNAL);
  std::array<char, 4096> buffer{};
  const ssize_t got = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
  // Closed with bytes unread: an answer, an end or a reset.
  if (got > 0) {
    EXPECT_TRUE(std::string_view(buffer.data(), 13) == "HTTP/1.1 431 ") << buffer.data();
  }
  EXPECT_LE(::recv(socket.get(), buffer.data(), buffer.size(), 0), 0);
}

TEST_F(MetricsHttp, AddressesAreThoseOfInterfaces) {
  for (const char* const bad : {"", "127.0.0.1", ":9100", "localhost:9100",
                                "127.0.0.1:", "127.0.0.1:http", "::1:9100", "127.0.0.1:99999"}) {
    try {
      MetricsServer(bad, text, log_);
      ADD_FAILURE() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::invalid_argument) << bad << ": " << error.message();
    }
  }
  EXPECT_ANY_THROW(MetricsServer(server_.address(), text, log_));  // taken
}

}  // namespace
}  // namespace veneer
