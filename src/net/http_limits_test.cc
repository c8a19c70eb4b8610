// Who may hold a connection for how long, and how many. In virtual time over real sockets: the loop
// runs only where a test says so, on the test's own thread.
#include <sys/resource.h>

#include <array>
#include <deque>
#include <string>

#include "async/event.h"
#include "base/testing/fake_clock.h"
#include "net/http_server.h"
#include "net/testing/server_thread.h"
#include "net/testing/test_certificates.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kRequest = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

Task<void> answer_length(Exchange& exchange) {
  std::array<std::byte, 1000> piece;
  std::size_t length = 0;
  while (true) {
    const Result<std::size_t> got = co_await exchange.read_some(piece);
    if (!got) {
      Response response = error_response(408, got.error().message, got.error().reason);
      (void)co_await exchange.respond(std::move(response));
      co_return;
    }
    if (*got == 0) break;
    length += *got;
  }
  Response response{.status = 200, .headers = {}, .body = std::to_string(length)};
  (void)co_await exchange.respond(std::move(response));
}

Task<void> answer_much(Exchange& exchange) {
  Response response{.status = 200, .headers = {}, .body = std::string(40'000'000, 'x')};
  (void)co_await exchange.respond(std::move(response));
}

// Keeps every request until it is told to answer, or its client goes.
class Holding {
 public:
  explicit Holding(Loop& loop) : loop_(loop) {}
  Handler handler() {
    return [this](Exchange& exchange) { return hold(exchange, *this); };
  }
  void release_all() {
    while (!held_.empty()) {
      held_.front().set();
      held_.pop_front();
    }
  }
  std::size_t held() const { return held_.size(); }

 private:
  static Task<void> hold(Exchange& exchange, Holding& self) {
    Future<void> done(self.loop_);
    self.held_.push_back(done.promise());
    const CancelCallback gone(exchange.disconnected(), [&] {
      done.cancel(Error{.code = Code::Cancelled, .message = "gone"});
    });
    const Status status = co_await done;
    Response response{.status = 200, .headers = {}, .body = "held"};
    if (status) (void)co_await exchange.respond(std::move(response));
  }
  Loop& loop_;
  std::deque<Promise<void>> held_;
};

class VirtualServer {
 public:
  explicit VirtualServer(HttpServerOptions options = {}, Handler handler = answer_length)
      : server_(loop_, options, std::move(handler)),
        port_(server_.listen("127.0.0.1", 0).value()) {}
  ~VirtualServer() { loop_.run(server_.close(Duration::zero())); }

  std::uint16_t port() const { return port_; }
  Loop& loop() { return loop_; }
  HttpServer& server() { return server_; }
  void poll() { loop_.poll(); }
  void advance(Duration by) {
    clock_.advance(by);
    loop_.poll();
  }
  // Runs until the client has been sent `part`, or its connection has ended.
  std::string read(const RawClient& client, std::string_view part) {
    std::string text;
    bool open = true;
    for (int i = 0; i < 100'000 && open && !text.contains(part); ++i) {
      loop_.poll();
      open = client.read_available(text);
    }
    return text;
  }
  // The connection has ended, or does so without time passing; what it said is added to `text`.
  bool ended(const RawClient& client, std::string& text) {
    for (int i = 0; i < 50; ++i) {
      loop_.poll();
      if (!client.read_available(text)) return true;
    }
    return false;
  }
  // Sends `byte` after every `pause` until the connection has ended; how long that took.
  Duration trickle(const RawClient& client, std::string_view byte, Duration pause,
                   std::string& text) {
    const TimePoint began = clock_.now();
    while (clock_.now() - began < 1h) {
      client.send(byte);
      poll();
      advance(pause);
      if (!client.read_available(text) || !text.empty()) break;
    }
    return clock_.now() - began;
  }

 private:
  FakeClock clock_;
  Loop loop_{clock_};
  HttpServer server_;
  std::uint16_t port_;
};

}  // namespace

TEST_CASE("a head is cut off with 408 at header_timeout, however steadily it trickles in") {
  for (const Duration pause : {100ms, 1000ms, 9900ms}) {
    VirtualServer server;
    const RawClient client(server.port());
    client.send("GET / HTTP/1.1\r\nHost: x\r\nX: ");
    std::string reply;
    const Duration lasted = server.trickle(client, "a", pause, reply);
    CHECK(lasted >= 10s);
    CHECK(lasted <= 10s + pause);
    CHECK(reply.starts_with("HTTP/1.1 408 "));
    CHECK(reply.contains("Connection: close"));
  }
}

TEST_CASE("the second head of a connection has header_timeout from its first byte") {
  VirtualServer server;
  const RawClient client(server.port());
  client.send(kRequest);
  CHECK(server.read(client, "\r\n\r\n0").starts_with("HTTP/1.1 200"));
  server.advance(70s);
  client.send("GET ");
  server.poll();
  std::string reply;
  const Duration lasted = server.trickle(client, "/", 1s, reply);
  CHECK(lasted >= 10s);
  CHECK(lasted <= 11s);
  CHECK(reply.starts_with("HTTP/1.1 408 "));
}

TEST_CASE("empty lines do not keep an idle connection open") {
  VirtualServer server;
  const RawClient client(server.port());
  client.send(kRequest);
  (void)server.read(client, "\r\n\r\n0");
  std::string reply;
  CHECK(server.trickle(client, "\r\n", 10s, reply) <= 80s);
  CHECK(reply.empty());
}

TEST_CASE("a body may be slow, but not trickle") {
  VirtualServer server;
  const RawClient client(server.port());
  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
  std::string reply;
  CHECK(server.trickle(client, "a", 29s, reply) <= 60s);
  CHECK(reply.starts_with("HTTP/1.1 408 "));
  CHECK(reply.contains("deadline_exceeded"));

  const RawClient chunked(server.port());
  chunked.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  reply.clear();
  CHECK(server.trickle(chunked, "1\r\na\r\n", 1s, reply) <= 32s);
  CHECK(reply.starts_with("HTTP/1.1 408 "));

  const RawClient steady(server.port());
  steady.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 512000\r\n\r\n");
  for (int i = 0; i < 1000; ++i) {
    steady.send(std::string(512, 'a'));
    server.poll();
    server.advance(2s);
  }
  CHECK(server.read(steady, "512000").starts_with("HTTP/1.1 200 "));
}

TEST_CASE("a reply may be taken slowly, but not by trickles") {
  VirtualServer server({}, answer_much);
  const RawClient client(server.port());
  client.send(kRequest);
  server.poll();
  CHECK(server.server().connections() == 1);
  // What the kernel has taken is out of our hands; nothing more is taken from us.
  server.advance(29s);
  CHECK(server.server().connections() == 1);
  server.advance(2s);
  CHECK(server.server().connections() == 0);

  const RawClient steady(server.port());
  steady.send(kRequest);
  std::string reply;
  for (int i = 0; i < 400 && reply.size() < 40'000'000; ++i) {
    CHECK(steady.read_available(reply));
    server.advance(5s);
  }
  CHECK(reply.size() > 40'000'000);
}

TEST_CASE("a TLS handshake that never comes, or trickles, ends at header_timeout") {
  const TempDir folder = TempDir::create().value();
  const TestAuthority authority(folder.path(), "authority");
  VirtualServer server;
  server.server().set_tls(TlsContext::server(authority.issue("server")).value());
  const RawClient silent(server.port());
  server.poll();
  server.advance(9s);
  CHECK(server.server().connections() == 1);
  server.advance(2s);
  CHECK(server.server().connections() == 0);

  // The beginning of a record of 16,000 bytes, which would be a ClientHello.
  const RawClient slow(server.port());
  slow.send("\x16\x03\x01\x3e\x80\x01");
  std::string reply;
  const Duration lasted = server.trickle(slow, std::string_view("\0", 1), 1s, reply);
  CHECK(lasted >= 9s);
  CHECK(lasted <= 11s);
  CHECK(server.server().connections() == 0);
}

TEST_CASE("at the limit the connection that has been idle the longest makes room") {
  VirtualServer server({.max_connections = 3});
  std::deque<RawClient> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back(server.port());
    clients.back().send(kRequest);
    CHECK(server.read(clients.back(), "\r\n\r\n0").starts_with("HTTP/1.1 200"));
    server.advance(1s);
  }
  // The first is not the oldest any more.
  clients[0].send(kRequest);
  (void)server.read(clients[0], "\r\n\r\n0");

  const RawClient fourth(server.port());
  fourth.send(kRequest);
  CHECK(server.read(fourth, "\r\n\r\n0").starts_with("HTTP/1.1 200"));
  CHECK(server.server().connections() == 3);
  std::string text;
  CHECK(server.ended(clients[1], text));
  CHECK(text.empty());
  for (const int kept : {0, 2}) {
    clients[static_cast<std::size_t>(kept)].send(kRequest);
    CHECK(server.read(clients[static_cast<std::size_t>(kept)], "\r\n\r\n0").starts_with("HTTP"));
  }
}

TEST_CASE("a request that arrives while its connection is chosen to go is served") {
  VirtualServer server({.max_connections = 1});
  const RawClient first(server.port());
  first.send(kRequest);
  (void)server.read(first, "\r\n\r\n0");
  const RawClient second(server.port());
  first.send(kRequest);  // both in one turn
  const std::string reply = server.read(first, "\r\n\r\n0");
  CHECK(reply.starts_with("HTTP/1.1 200"));
  second.send(kRequest);
  CHECK(server.read(second, "\r\n\r\n0").starts_with("HTTP/1.1 200"));
}

TEST_CASE("at the limit without an idle connection the newcomer is told to come back") {
  Loop* loop = nullptr;
  std::unique_ptr<Holding> holding;
  VirtualServer server({.max_connections = 2},
                       [&](Exchange& exchange) { return holding->handler()(exchange); });
  loop = &server.loop();
  holding = std::make_unique<Holding>(*loop);
  const RawClient first(server.port());
  const RawClient second(server.port());
  first.send(kRequest);
  second.send(kRequest);
  server.poll();
  REQUIRE(holding->held() == 2);

  const RawClient third(server.port());
  third.send(kRequest);
  std::string reply;
  (void)server.ended(third, reply);
  CHECK(reply.starts_with("HTTP/1.1 503 "));
  CHECK(reply.contains("Retry-After: 1\r\n"));
  CHECK(reply.contains("limits.max_connections"));
  CHECK(reply.contains("\"reason\":\"node_busy\""));
  CHECK(holding->held() == 2);

  holding->release_all();
  CHECK(server.read(first, "held").starts_with("HTTP/1.1 200"));
  const RawClient fourth(server.port());
  fourth.send(kRequest);
  server.poll();
  CHECK(holding->held() == 1);
  holding->release_all();
}

TEST_CASE("an address has its own limit, and others their places") {
  VirtualServer server({.max_per_address = 2});
  std::deque<RawClient> greedy;
  for (int i = 0; i < 2; ++i) {
    greedy.emplace_back(server.port(), "127.0.0.7");
    greedy.back().send(kRequest);
    CHECK(server.read(greedy.back(), "\r\n\r\n0").starts_with("HTTP/1.1 200"));
  }
  const RawClient more(server.port(), "127.0.0.7");
  std::string reply;
  (void)server.ended(more, reply);
  CHECK(reply.starts_with("HTTP/1.1 503 "));
  CHECK(reply.contains("limits.max_connections_per_address"));
  const RawClient modest(server.port(), "127.0.0.8");
  modest.send(kRequest);
  CHECK(server.read(modest, "\r\n\r\n0").starts_with("HTTP/1.1 200"));

  greedy.pop_front();  // closes: its place is free
  server.poll();
  const RawClient again(server.port(), "127.0.0.7");
  again.send(kRequest);
  CHECK(server.read(again, "\r\n\r\n0").starts_with("HTTP/1.1 200"));
}

TEST_CASE("of many that are turned away only some are told why, none is kept") {
  VirtualServer server({.max_per_address = 1});
  const RawClient served(server.port());
  served.send(kRequest);
  (void)server.read(served, "\r\n\r\n0");
  std::deque<RawClient> flood;
  for (int i = 0; i < 200; ++i) flood.emplace_back(server.port());
  server.poll();
  server.poll();
  CHECK(server.server().connections() <= 1 + 64);
  server.advance(3s);
  CHECK(server.server().connections() == 1);
}

TEST_CASE("a thousand pipelined requests are answered in order, within fixed memory") {
  VirtualServer server;
  const RawClient client(server.port());
  std::string requests;
  std::string expected;
  for (int i = 0; i < 1000; ++i) {
    const std::string body(static_cast<std::size_t>(i % 7), 'b');
    requests += "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) +
                "\r\n\r\n" + body;
    expected += std::to_string(body.size());
  }
  client.send(requests + "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  std::string replies;
  while (!server.ended(client, replies)) server.poll();
  std::string got;
  for (auto at = replies.find("\r\n\r\n"); at != std::string::npos;
       at = replies.find("\r\n\r\n", at + 1)) {
    got += replies.substr(at + 4, 1);
  }
  CHECK(got == expected + "0");
}

TEST_CASE("who goes away with requests pipelined leaves nothing behind") {
  std::unique_ptr<Holding> holding;
  VirtualServer server({}, [&](Exchange& exchange) { return holding->handler()(exchange); });
  holding = std::make_unique<Holding>(server.loop());
  {
    RawClient client(server.port());
    client.send(std::string(kRequest) + std::string(kRequest) + std::string(kRequest));
    server.poll();
    CHECK(holding->held() == 1);  // one at a time
    client.reset();
  }
  server.poll();
  CHECK(server.server().connections() == 0);
}

TEST_CASE("without a descriptor to accept with, the listener pauses, and idle ones make room") {
  VirtualServer server;
  const RawClient idle(server.port());
  idle.send(kRequest);
  (void)server.read(idle, "\r\n\r\n0");
  const RawClient waiting(server.port());
  waiting.send(kRequest);

  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  rlimit none = before;
  none.rlim_cur = 3;
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  server.poll();  // ends: a listener that goes on trying would never let it
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  std::string text;
  CHECK(server.ended(idle, text));
  CHECK(text.empty());
  server.advance(200ms);
  CHECK(server.read(waiting, "\r\n\r\n0").starts_with("HTTP/1.1 200"));
}

}  // namespace mayfly
