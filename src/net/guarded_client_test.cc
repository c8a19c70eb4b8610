#include "net/guarded_client.h"

#include <atomic>
#include <string>
#include <thread>

#include "async/sleep.h"
#include "core/reason.h"
#include "net/testing/server_thread.h"
#include "net/testing/test_certificates.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// What a server was asked, and what it answers.
struct GuardedRig {
  GuardedRig() : server([this](Exchange& exchange) { return answer(exchange); }) {}

  Task<void> answer(Exchange& exchange) {
    ++asked;
    host = exchange.head().headers.find("Host").value_or("");
    target = exchange.head().target;
    if (target == "/endless") {
      (void)co_await exchange.start(200, {});
      const std::string piece(10'000, 'x');
      while (co_await exchange.write(piece)) {
      }
      co_return;
    }
    if (target == "/silent") {
      (void)co_await sleep_for(server.loop(), 1h, exchange.disconnected());
    }
    Response response{.status = target == "/away" ? 302 : 200, .headers = {}, .body = "thanks"};
    if (target == "/away") response.headers.add("Location", "/elsewhere");
    (void)co_await exchange.respond(std::move(response));
  }

  // Names are where the test says.
  std::unique_ptr<GuardedClient> client(const std::vector<std::string>& allow,
                                        const Path& ca = {}) {
    GuardedClient::World world = GuardedClient::this_machine();
    world.resolve = [this](const std::string&, std::uint16_t port) {
      ++resolved;
      return resolve_tcp(address, port);
    };
    return GuardedClient::create(EgressPolicy::parse(allow).value(), ca, std::move(world)).value();
  }
  WebUrl url(const std::string& path) const {
    return parse_web_url("http://hooks.test:" + std::to_string(server.port()) + path).value();
  }

  std::atomic<int> asked = 0;
  std::string host;
  std::string target;
  int resolved = 0;
  std::string address = "127.0.0.1";
  ServerThread server;  // ends before what its handler writes to
};

}  // namespace

TEST_CASE("a name is resolved once, and asked by its own name where it was found") {
  GuardedRig rig;
  const auto client = rig.client({"127.0.0.1"});
  const auto reply = client->send({.method = "POST", .url = rig.url("/in?a=b"), .body = "{}"});
  REQUIRE(reply.has_value());
  CHECK(reply->status == 200);
  CHECK(reply->body == "thanks");
  CHECK(reply->whole);
  CHECK(rig.resolved == 1);
  CHECK(rig.host == rig.url("/").authority());
  CHECK(rig.target == "/in?a=b");
}

TEST_CASE("what the policy forbids is not asked") {
  GuardedRig rig;
  for (const std::vector<std::string>& allow :
       {std::vector<std::string>{}, {"10.0.0.0/8"}, {"127.0.0.1:1"}, {"other.test"}}) {
    const auto refused = rig.client(allow)->send({.url = rig.url("/")});
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == Code::PermissionDenied);
  }
  rig.address = "::ffff:127.0.0.1";
  CHECK(rig.client({"::1"})->send({.url = rig.url("/")}).error().code == Code::PermissionDenied);
  CHECK(rig.asked == 0);
}

TEST_CASE("a redirect is a reply, and is not followed") {
  GuardedRig rig;
  const auto reply = rig.client({"127.0.0.1"})->send({.url = rig.url("/away")});
  REQUIRE(reply.has_value());
  CHECK(reply->status == 302);
  CHECK(reply->headers.find("Location") == "/elsewhere");
  CHECK(rig.asked == 1);
}

TEST_CASE("of an endless reply no more is read than was wanted") {
  GuardedRig rig;
  const auto reply = rig.client({"127.0.0.1"})->send({.url = rig.url("/endless"), .most = kib(64)});
  REQUIRE(reply.has_value());
  CHECK(reply->status == 200);
  CHECK_FALSE(reply->whole);
  CHECK(reply->body.size() == 65'536);
}

TEST_CASE("who does not answer is given up, in time or when the node stops") {
  GuardedRig rig;
  const auto client = rig.client({"127.0.0.1"});
  const SystemClock clock;
  const TimePoint begun = clock.now();
  const auto late = client->send({.url = rig.url("/silent"), .patience = 50ms});
  REQUIRE_FALSE(late.has_value());
  CHECK(late.error().code == Code::DeadlineExceeded);
  std::thread other([&] { client->stop(); });
  const auto stopped = client->send({.url = rig.url("/silent"), .patience = 20s});
  other.join();
  REQUIRE_FALSE(stopped.has_value());
  CHECK(stopped.error().reason == reason::kDraining);
  CHECK(clock.now() - begun < 15s);
  CHECK(client->send({.url = rig.url("/")}).error().reason == reason::kDraining);
}

TEST_CASE("over https the certificate must be the name's, of an authority that is trusted") {
  const TempDir folder = TempDir::create().value();
  const TestAuthority authority(folder.path(), "authority");
  GuardedRig rig;
  rig.server.set_tls(
      TlsContext::server(authority.issue("server", {.names = "DNS:hooks.test"})).value());
  const std::string port = std::to_string(rig.server.port());
  const WebUrl right = parse_web_url("https://hooks.test:" + port + "/").value();
  const WebUrl wrong = parse_web_url("https://other.test:" + port + "/").value();
  CHECK(rig.client({"127.0.0.1"})->send({.url = right}).error().code == Code::Unauthenticated);
  const auto client = rig.client({"127.0.0.1"}, authority.file());
  CHECK(client->send({.url = wrong}).error().code == Code::Unauthenticated);
  const auto reply = client->send({.url = right});
  REQUIRE(reply.has_value());
  CHECK(reply->status == 200);
  CHECK(GuardedClient::create({}, folder.path() / "none.pem").error().reason ==
        reason::kInvalidSetting);
}

}  // namespace mayfly
