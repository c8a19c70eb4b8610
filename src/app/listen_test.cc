#include "app/listen.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("a node listens on loopback or on a socket file") {
  CHECK(parse_listen("127.0.0.1:8080")->address == "127.0.0.1");
  CHECK(parse_listen("127.0.0.1:8080")->port == 8080);
  CHECK(parse_listen("127.1.2.3:0")->address == "127.1.2.3");
  CHECK(parse_listen("localhost:9")->address == "127.0.0.1");
  CHECK(parse_listen("[::1]:80")->address == "::1");
  CHECK(parse_listen("unix:/run/m/s")->socket == "/run/m/s");
  for (const char* local : {"127.0.0.1:8080", "127.1.2.3:0", "[::1]:80", "unix:/run/m/s"})
    CHECK_MESSAGE(check_loopback(parse_listen(local).value(), "server.listen"), local);
}

TEST_CASE("what other machines could reach is refused until there are keys") {
  for (const char* open : {"0.0.0.0:8080", "[::]:8080", "10.0.0.1:80"}) {
    const auto refused = check_loopback(parse_listen(open).value(), "server.listen");
    REQUIRE_FALSE(refused.has_value());
    CHECK_MESSAGE(refused.error().message.contains("reachable from other machines"), open);
  }
}

TEST_CASE("what is no address is told") {
  for (const char* bad :
       {"", "8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", ":80", "127.0.0.1:8x",
        "unix:", "unix:relative", "example.org:80", "*:80", "10.0.0:80", "[::g]:80"}) {
    const auto refused = parse_listen(bad);
    REQUIRE_FALSE(refused.has_value());
    CHECK_MESSAGE(refused.error().message.starts_with("server.listen: '"), bad);
  }
}

TEST_CASE("gRPC is served at a loopback address or not at all") {
  CHECK(host_and_port(**parse_grpc_listen("127.0.0.1:8081")) == "127.0.0.1:8081");
  CHECK(host_and_port(**parse_grpc_listen("[::1]:9")) == "[::1]:9");
  for (const char* off : {"off", ""}) CHECK_FALSE(parse_grpc_listen(off)->has_value());
  for (const char* bad : {"unix:/run/m/g", "8081"}) {
    const auto refused = parse_grpc_listen(bad);
    REQUIRE_FALSE(refused.has_value());
    CHECK_MESSAGE(refused.error().message.starts_with("server.grpc_listen: "), bad);
  }
}
