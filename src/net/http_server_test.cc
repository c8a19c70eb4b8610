// Real sockets. Timeouts that must pass are a few milliseconds long and waited for as events (the
// server closing); nothing sleeps.
#include "net/http_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "async/event.h"
#include "base/file.h"
#include "net/http_client.h"
#include "net/testing/server_thread.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

Task<Result<std::string>> read_all(Exchange& exchange) {
  std::string body;
  std::array<std::byte, 1000> piece;
  while (true) {
    CO_TRY(const std::size_t got, co_await exchange.read_some(piece));
    if (got == 0) co_return body;
    body.append(reinterpret_cast<const char*>(piece.data()), got);
  }
}

Task<void> echo(Exchange& exchange) {
  Result<std::string> body = co_await read_all(exchange);
  Response response;
  if (body) {
    response.body = exchange.head().target + "|" + *body;
  } else {
    response = error_response(400, body.error().message, body.error().reason);
  }
  (void)co_await exchange.respond(std::move(response));
}

Task<void> refuse_large(Exchange& exchange) {
  Response response = error_response(413, "too large", "too_large");
  (void)co_await exchange.respond(std::move(response));
}

Task<void> stream_three(Exchange& exchange) {
  (void)co_await exchange.start(200, {});
  for (const char* line : {"one\n", "two\n", "three\n"}) (void)co_await exchange.write(line);
  if (exchange.head().target != "/cut") (void)co_await exchange.finish();
}

Task<void> answer_no_content(Exchange& exchange) {
  Response response{.status = 204, .headers = {}, .body = {}};
  (void)co_await exchange.respond(std::move(response));
}

Task<void> inject_header(Exchange& exchange) {
  Response response{.status = 200, .headers = {{.name = "X", .value = "a\r\nY: b"}}, .body = {}};
  (void)co_await exchange.respond(std::move(response));
}

Task<void> answer_nothing(Exchange&) { co_return; }

Task<void> send_shared(Exchange& exchange, std::shared_ptr<std::vector<std::string>> texts) {
  SharedBytes body{.parts = {}, .owner = texts};
  for (const std::string& text : *texts) body.parts.push_back(std::as_bytes(std::span(text)));
  Response response{.status = 200, .headers = {}, .body = std::move(body)};
  (void)co_await exchange.respond(std::move(response));
}

// Tells the test's thread what the first handler saw.
struct Parked {
  bool used = false;
  std::promise<void> entered;
  std::promise<bool> cancelled;
};

Task<void> park(Exchange& exchange, Loop& loop, Parked& parked) {
  if (std::exchange(parked.used, true)) co_return;
  Future<void> done(loop);
  const Promise<void> promise = done.promise();
  const CancelCallback callback(exchange.disconnected(), [&] {
    done.cancel(Error{.code = Code::Cancelled, .message = "gone"});
  });
  parked.entered.set_value();
  const Status status = co_await done;
  parked.cancelled.set_value(!status);
}

Task<void> hold(Exchange& exchange, Loop& loop, Promise<void>& release,
                std::promise<void>& entered) {
  Future<void> done(loop);
  release = done.promise();
  entered.set_value();
  (void)co_await done;
  Response response{.status = 200, .headers = {}, .body = "finished"};
  (void)co_await exchange.respond(std::move(response));
}

constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
constexpr std::string_view kLastGet = "GET /z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

std::string post(std::string_view headers, std::string_view body) {
  return "POST /p HTTP/1.1\r\nHost: x\r\n" + std::string(headers) + "\r\n" + std::string(body);
}

}  // namespace

TEST_CASE("a connection serves one request after another") {
  ServerThread server(echo);
  RawClient client(server.port());
  for (int i = 0; i < 3; ++i) {
    client.send(kGet);
    const std::string reply = client.read_reply();
    CHECK(reply.starts_with("HTTP/1.1 200 OK\r\nDate: "));
    CHECK(reply.contains("Content-Length: 3\r\n"));
    CHECK_FALSE(reply.contains("Connection:"));
    CHECK(reply.ends_with("\r\n\r\n/a|"));
  }
  client.send(kLastGet);
  const std::string last = client.read_to_end();
  CHECK(last.contains("Connection: close\r\n"));
  CHECK(last.ends_with("/z|"));
}

TEST_CASE("pipelined requests are answered in order, with bodies between them") {
  ServerThread server(echo);
  RawClient client(server.port());
  client.send(std::string(kGet) + post("Content-Length: 5\r\n", "hello") +
              post("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n") +
              std::string(kLastGet));
  CHECK(client.read_reply().ends_with("/a|"));
  CHECK(client.read_reply().ends_with("/p|hello"));
  CHECK(client.read_reply().ends_with("/p|abc"));
  CHECK(client.read_to_end().ends_with("/z|"));
}

TEST_CASE("a request may arrive byte by byte") {
  ServerThread server(echo);
  RawClient client(server.port());
  const std::string bytes = "\r\n" +
                            post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n") +
                            std::string(kLastGet);
  for (const char c : bytes) client.send(std::string_view(&c, 1));
  CHECK(client.read_reply().ends_with("/p|abc"));
  CHECK(client.read_to_end().ends_with("/z|"));
}

TEST_CASE("HTTP/1.0 gets its end by the end of the connection, unless it asks to keep it") {
  ServerThread server(echo);
  RawClient once(server.port());
  once.send("GET /a HTTP/1.0\r\n\r\n");
  CHECK(once.read_to_end().contains("Connection: close\r\n"));
  RawClient kept(server.port());
  kept.send("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  CHECK(kept.read_reply().contains("Connection: keep-alive\r\n"));
  kept.send(kLastGet);
  CHECK(kept.read_to_end().ends_with("/z|"));
}

TEST_CASE("a reply to HEAD has the length and no body") {
  ServerThread server(echo);
  RawClient client(server.port());
  client.send("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n" + std::string(kLastGet));
  const std::string head = client.read_until("\r\n\r\n");
  CHECK(head.contains("Content-Length: 3\r\n"));
  CHECK(client.read_to_end().starts_with("HTTP/1.1 200"));
}

TEST_CASE("a reply without a body has no length") {
  ServerThread server(answer_no_content);
  RawClient client(server.port());
  client.send(std::string(kGet) + std::string(kGet));
  const std::string reply = client.read_until("\r\n\r\n");
  CHECK(reply.starts_with("HTTP/1.1 204 No Content\r\n"));
  CHECK_FALSE(reply.contains("Content-Length"));
  CHECK(client.read_until("\r\n\r\n").starts_with("HTTP/1.1 204"));
}

TEST_CASE("a client that closes its sending side still gets what it asked for") {
  ServerThread server(echo);
  RawClient client(server.port());
  client.send(std::string(kGet) + std::string(kGet));
  client.half_close();
  const std::string replies = client.read_to_end();
  CHECK(replies.contains("/a|HTTP/1.1 200"));
  CHECK(replies.ends_with("/a|"));
}

TEST_CASE("a reply with a malformed header is not sent") {
  ServerThread server(inject_header);
  HttpClient client(parse_url(server.url()).value());
  CHECK(client.send({})->status == 500);
}

TEST_CASE("100 Continue is sent when the handler reads, and not before") {
  ServerThread server(echo);
  RawClient client(server.port());
  client.send(post("Content-Length: 5\r\nExpect: 100-continue\r\n", ""));
  CHECK(client.read_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("hello");
  CHECK(client.read_reply().ends_with("/p|hello"));

  ServerThread refusing(refuse_large);
  RawClient refused(refusing.port());
  refused.send(post("Content-Length: 5000000\r\nExpect: 100-continue\r\n", ""));
  const std::string reply = refused.read_to_end();
  CHECK(reply.starts_with("HTTP/1.1 413"));
  CHECK(reply.contains("Connection: close"));
}

TEST_CASE("a refused large body costs the connection, a small one is skipped") {
  ServerThread server(refuse_large, {.unread_body_limit = 1000});
  RawClient small(server.port());
  small.send(post("Content-Length: 500\r\n", std::string(500, 'x')) + std::string(kGet));
  CHECK(small.read_reply().starts_with("HTTP/1.1 413"));
  CHECK(small.read_reply().starts_with("HTTP/1.1 413"));

  // The reply arrives although the client is still sending.
  RawClient large(server.port());
  large.send(post("Content-Length: 2000000\r\n", std::string(2'000'000, 'x')));
  const std::string reply = large.read_to_end();
  CHECK(reply.starts_with("HTTP/1.1 413"));
  CHECK(reply.contains("Connection: close"));

  RawClient chunked(server.port());
  chunked.send(post("Transfer-Encoding: chunked\r\n", "7d0\r\n" + std::string(2000, 'x') + "\r\n"));
  chunked.send(kGet);
  CHECK(chunked.read_reply().starts_with("HTTP/1.1 413"));
  CHECK(chunked.read_to_end().empty());
}

TEST_CASE("bodies and replies of many megabytes pass") {
  ServerThread server(echo);
  HttpClient client(parse_url(server.url()).value());
  std::string big;
  for (int i = 0; big.size() < 8'000'000; ++i) big += std::to_string(i);
  for (const bool chunked : {false, true}) {
    std::size_t sent = 0;
    BodySource source{.length = chunked ? std::nullopt : std::optional<std::uint64_t>(big.size()),
                      .read = [&](std::span<std::byte> into) -> Result<std::size_t> {
                        const std::size_t size = std::min(into.size(), big.size() - sent);
                        std::memcpy(into.data(), big.data() + sent, size);
                        sent += size;
                        return size;
                      }};
    ClientRequest request{.method = "POST", .target = "/p", .body = std::move(source)};
    const Result<ClientResponse> response = client.send(std::move(request));
    REQUIRE(response);
    CHECK(response->body == "/p|" + big);
  }
}

TEST_CASE("shared bytes are sent from where they lie") {
  auto parts = std::make_shared<std::vector<std::string>>(2000, std::string(1000, 'y'));
  ServerThread server([parts](Exchange& exchange) { return send_shared(exchange, parts); });
  HttpClient client(parse_url(server.url()).value());
  CHECK(client.send({})->body == std::string(2'000'000, 'y'));
}

TEST_CASE("a streamed reply is chunked, and an unfinished one is seen to be incomplete") {
  ServerThread server(stream_three);
  HttpClient client(parse_url(server.url()).value());
  std::string streamed;
  const auto sink = [&](std::string_view piece) -> Status {
    streamed += piece;
    return {};
  };
  const Result<ClientResponse> whole = client.send({.target = "/whole", .sink = sink});
  REQUIRE(whole);
  CHECK(whole->headers.find("transfer-encoding") == "chunked");
  CHECK(streamed == "one\ntwo\nthree\n");
  const Result<ClientResponse> cut = client.send({.target = "/cut"});
  REQUIRE_FALSE(cut);
  CHECK(cut.error().code == Code::Cancelled);

  RawClient old(server.port());
  old.send("GET /whole HTTP/1.0\r\n\r\n");
  CHECK(old.read_to_end().ends_with("\r\n\r\none\ntwo\nthree\n"));
}

TEST_CASE("what is no request is answered with 400 and the connection ends") {
  ServerThread server(echo);
  for (const std::string bytes :
       {"GET / HTTP/1.1\nHost: x\n\n", "nonsense\r\n\r\n", "\x16\x03\x01\x02",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"}) {
    CAPTURE(bytes);
    RawClient client(server.port());
    client.send(bytes);
    const std::string reply = client.read_to_end();
    CHECK(reply.starts_with("HTTP/1.1 400 Bad Request\r\n"));
    CHECK(reply.contains("\"reason\":\"bad_request\""));
  }
  RawClient large(server.port());
  large.send("GET / HTTP/1.1\r\nX: " + std::string(20'000, 'a'));
  CHECK(large.read_to_end().starts_with("HTTP/1.1 431 "));
}

TEST_CASE("a malformed chunk fails the read, and nothing after it is taken for a request") {
  ServerThread server(echo);
  RawClient client(server.port());
  client.send(post("Transfer-Encoding: chunked\r\n", "zz\r\n") + std::string(kGet));
  const std::string reply = client.read_to_end();
  CHECK(reply.starts_with("HTTP/1.1 400"));
  CHECK(reply.find("HTTP/1.1", 1) == std::string::npos);
}

TEST_CASE("who sends a head too slowly gets 408, an idle connection just ends") {
  ServerThread server(echo, {.header_timeout = 5ms, .idle_timeout = 5ms, .body_timeout = 5ms});
  RawClient slow(server.port());
  slow.send("GET / HTTP/1.1\r\nHost:");
  CHECK(slow.read_to_end().starts_with("HTTP/1.1 408"));
  RawClient silent(server.port());
  CHECK(silent.read_to_end().empty());
  RawClient stalled(server.port());
  stalled.send(post("Content-Length: 5\r\n", "he"));
  CHECK(stalled.read_to_end().contains("deadline_exceeded"));
  RawClient idle(server.port());
  idle.send(kGet);
  CHECK(idle.read_reply().ends_with("/a|"));
  CHECK(idle.read_to_end().empty());
}

TEST_CASE("a client that goes away cancels the handler's work, also with requests pipelined") {
  Parked parked;
  Loop loop;
  ServerThread server(loop, [&](Exchange& exchange) { return park(exchange, loop, parked); });
  RawClient client(server.port());
  client.send(std::string(kGet) + std::string(kGet));
  parked.entered.get_future().wait();
  auto cancelled = parked.cancelled.get_future();
  client.reset();
  CHECK(cancelled.get());
}

TEST_CASE("a handler that does not answer is a 500") {
  ServerThread server(answer_nothing);
  HttpClient client(parse_url(server.url()).value());
  CHECK(client.send({})->status == 500);
}

TEST_CASE("closing ends idle connections, lets accepted requests finish, and refuses new ones") {
  Loop loop;
  Promise<void> release;
  std::promise<void> entered;
  ServerThread server(loop,
                      [&](Exchange& exchange) { return hold(exchange, loop, release, entered); });
  RawClient idle(server.port());
  RawClient busy(server.port());
  busy.send(kGet);
  entered.get_future().wait();
  server.begin_close(1h);
  CHECK(idle.read_to_end().empty());
  server.loop().post([&] { release.set(); });
  const std::string reply = busy.read_to_end();
  CHECK(reply.contains("Connection: close"));
  CHECK(reply.ends_with("finished"));
  server.wait_closed();
}

TEST_CASE("closing disconnects what is not done in time") {
  Parked parked;
  Loop loop;
  ServerThread server(loop, [&](Exchange& exchange) { return park(exchange, loop, parked); });
  RawClient client(server.port());
  client.send(kGet);
  parked.entered.get_future().wait();
  server.begin_close(1ms);
  CHECK(parked.cancelled.get_future().get());
  server.wait_closed();
}

TEST_CASE("the client survives that its kept connection was closed") {
  ServerThread server(echo, {.idle_timeout = 1ms});
  HttpClient client(parse_url(server.url()).value());
  for (int i = 0; i < 20; ++i) CHECK(client.send({.target = "/x"})->body == "/x|");
}

TEST_CASE("the client reads an early refusal while it is still sending") {
  ServerThread server(refuse_large, {.unread_body_limit = 1000});
  HttpClient client(parse_url(server.url()).value());
  ClientRequest request{.method = "POST", .target = "/", .body = std::string(50'000'000, 'x')};
  const Result<ClientResponse> response = client.send(std::move(request));
  REQUIRE(response);
  CHECK(response->status == 413);
}

TEST_CASE("a unix socket serves however long its path is") {
  ServerThread server(echo);
  const TempDir folder = TempDir::create().value();
  const Path deep = folder.path() / std::string(200, 'd') / std::string(200, 'e');
  REQUIRE(make_directories(deep).has_value());
  const std::string path = deep / "socket";
  for (int round = 0; round < 2; ++round) {  // over its own: the second is refused
    std::promise<bool> listening;
    server.loop().post([&] { listening.set_value(server.server().listen_unix(path).has_value()); });
    CHECK(listening.get_future().get() == (round == 0));
  }
  HttpClient client(parse_url("unix:" + path).value());
  const auto reply = client.send({.target = "/hello"});
  REQUIRE(reply.has_value());
  CHECK(reply->status == 200);
  HttpClient nowhere(parse_url("unix:" + path + std::string(200, 'f')).value());
  CHECK(nowhere.send({}).error().message.contains("too long"));
}

TEST_CASE("a unix socket serves too") {
  const TempDir folder = std::move(TempDir::create()).value();
  ServerThread server(echo);
  const std::string path = (folder.path() / "s").string();
  std::promise<bool> listening;
  server.loop().post([&] { listening.set_value(server.server().listen_unix(path).has_value()); });
  REQUIRE(listening.get_future().get());
  HttpClient client(parse_url("unix:" + path).value());
  CHECK(client.send({.target = "/u"})->body == "/u|");
  struct stat file{};
  REQUIRE(::stat(path.c_str(), &file) == 0);
  CHECK((file.st_mode & 0777) == 0600);
}

TEST_CASE("a socket file that a dead server left is replaced, one in use is not") {
  const TempDir folder = std::move(TempDir::create()).value();
  const std::string path = (folder.path() / "s").string();
  {
    const Fd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(address.sun_path, path.size());
    REQUIRE(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  Loop loop;
  const auto nothing = [](Exchange&) -> Task<void> { co_return; };
  HttpServer server(loop, {}, nothing);
  HttpServer second(loop, {}, nothing);
  CHECK(server.listen_unix(path).has_value());
  CHECK_FALSE(second.listen_unix(path).has_value());
  loop.run(server.close({}));
  CHECK_FALSE(std::filesystem::exists(path));
  loop.run(second.close({}));
}

TEST_CASE("the client says what is wrong when there is no node") {
  std::uint16_t port = 0;
  {
    port = ServerThread(echo).port();
  }
  HttpClient client(parse_url("http://127.0.0.1:" + std::to_string(port)).value());
  const Result<ClientResponse> response = client.send({});
  REQUIRE_FALSE(response);
  CHECK(response.error().message ==
        "cannot reach the node at http://127.0.0.1:" + std::to_string(port) +
            ": Connection refused; is `mayfly serve` running?");
}

TEST_CASE("URLs") {
  CHECK(parse_url("http://a:81/p/")->prefix == "/p");
  CHECK(parse_url("http://[::1]:81")->host == "::1");
  CHECK(parse_url("http://a")->port == 80);
  CHECK_FALSE(parse_url("http://a")->tls);
  CHECK(parse_url("https://a")->port == 443);
  CHECK(parse_url("https://a")->tls);
  CHECK(parse_url("unix:/run/x")->unix_socket == "/run/x");
  for (const char* bad :
       {"a", "ftp://a", "https://", "http://", "http://a:b", "http://a:99999", "unix:x"}) {
    CHECK_FALSE(parse_url(bad));
  }
}

}  // namespace mayfly
