#include "gateway/callers.h"

#include <memory>
#include <string>

#include "base/testing/fake_clock.h"
#include "core/caller_reason.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

struct Rig {
  TempDir folder = TempDir::create().value();
  FakeClock clock;
  SystemRng rng;
  Loop loop{clock};
  Pool pool{loop, "control", 1};
  std::unique_ptr<KeyStore> keys =
      KeyStore::open(folder.path() / "identity.db", folder.path() / "secret", clock, rng).value();
  std::unique_ptr<AuditLog> audit = AuditLog::open(folder.path() / "identity.db").value();
  Callers callers{{loop, pool, *keys, *audit}};

  ~Rig() { loop.run(callers.close()); }

  KeyStore::Made make() {
    auto made =
        keys->create({.name = "ci", .project = "team", .scopes = Scopes::all()}, "").value();
    callers.refresh();
    return made;
  }
  // Until the pool has done what it was given: it has one thread, so what is asked last ends last.
  void settle() {
    loop.poll();
    loop.run([](Pool& all) -> Task<void> { co_await all.run([] {}); }(pool));
    loop.poll();
  }
  std::vector<AuditEntry> entries() { return audit->find({.limit = 1000}).value(); }
};

AuditEntry refusal(const std::string& who) {
  return {.project = "team",
          .who = who,
          .from = "127.0.0.1",
          .action = "delete",
          .subject = "f",
          .outcome = "missing_scope"};
}

}  // namespace

TEST_CASE("everybody is admitted until there is a key, then only who sends one") {
  Rig rig;
  CHECK(rig.callers.who({}).value()->means == Principal::Means::Nobody);
  const KeyStore::Made made = rig.make();
  const std::string header = "Bearer " + made.text;
  CHECK(rig.callers.closed());
  for (const char* bad : {"", "Bearer", "Bearer ", "Basic abc", "Bearer mayfly_x"})
    CHECK(rig.callers.who({.authorization = bad}).error().reason == reason::kUnauthenticated);
  CHECK_FALSE(rig.callers.who({}).has_value());
  CHECK(rig.callers.who({.authorization = header}).value()->project == "team");
  const std::string spaced = "bearer  " + made.text + " ";
  CHECK(rig.callers.who({.authorization = spaced}).has_value());
}

TEST_CASE("what goes on is asked again: the first key closes it, its own end ends it") {
  Rig rig;
  CHECK(rig.callers.still({}).has_value());
  const KeyStore::Made made = rig.make();
  const std::string header = "Bearer " + made.text;
  CHECK_FALSE(rig.callers.still({}).has_value());
  CHECK(rig.callers.still({.authorization = header}).has_value());
  REQUIRE(rig.keys->revoke("", made.row.id).has_value());
  rig.callers.refresh();
  CHECK_FALSE(rig.callers.still({.authorization = header}).has_value());
}

TEST_CASE("a key's last use is written some seconds later, and when the node stops") {
  Rig rig;
  const KeyStore::Made made = rig.make();
  const std::string header = "Bearer " + made.text;
  const auto last = [&] { return rig.keys->list("")->at(0).last_used; };
  REQUIRE(rig.callers.still({.authorization = header}).has_value());
  rig.clock.advance(6s);
  rig.settle();
  CHECK_FALSE(last().has_value());  // to go on is no use

  const WallTime first = rig.clock.wall_now();
  REQUIRE(rig.callers.who({.authorization = header}).has_value());
  rig.settle();
  CHECK_FALSE(last().has_value());
  rig.clock.advance(5s);
  rig.settle();
  CHECK(last() == first);

  const WallTime second = rig.clock.wall_now();
  REQUIRE(rig.callers.who({.authorization = header}).has_value());
  rig.loop.run(rig.callers.close());
  CHECK(last() == second);
}

TEST_CASE("refusals beyond a rate are counted in one entry, actions are all kept") {
  Rig rig;
  for (int i = 0; i < 50; ++i) rig.loop.run(rig.callers.audit(refusal("loop")));
  for (int i = 0; i < 50; ++i) {
    AuditEntry done = refusal("loop");
    done.outcome = "ok";
    rig.loop.run(rig.callers.audit(done));
  }
  CHECK(rig.entries().size() == 20 + 50);
  rig.clock.advance(10s);
  rig.settle();
  const AuditEntry counted = rig.entries().at(0);
  CHECK(counted.action == "refusals");
  CHECK(counted.subject == "30");
  CHECK(counted.who == "loop");
  CHECK(counted.project == "team");
}

TEST_CASE("strangers fill no disk, and what they wanted is counted when the node stops") {
  Rig rig;
  for (int i = 0; i < 100; ++i) rig.callers.audit_stranger(refusal(""));
  rig.settle();
  CHECK(rig.entries().size() == 20);
  rig.loop.run(rig.callers.close());
  CHECK(rig.entries().size() == 21);
  CHECK(rig.entries().at(0).subject == "80");
  rig.callers.audit_stranger(refusal(""));  // closed: nobody waits for it
  CHECK(rig.entries().size() == 21);
}

TEST_CASE("peers are named without their port") {
  CHECK(address_of("127.0.0.1:51234") == "127.0.0.1");
  CHECK(address_of("[::1]:51234") == "[::1]");
  CHECK(address_of("unix") == "unix");
}

TEST_CASE("a certificate stands for its caller where the request shows nothing else") {
  Rig rig;
  const CertificateMap map =
      CertificateMap::parse(
          R"({"certificates":[{"subject":"DNS:edge","project":"edges","scopes":"invoke:*"}]})")
          .value();
  Callers callers({rig.loop, rig.pool, *rig.keys, *rig.audit, nullptr, &map});
  CHECK(callers.closed());
  const PeerCertificate edge{.common_name = "x", .names = {"DNS:edge"}};
  const PeerCertificate other{.common_name = "edge", .names = {}};
  CHECK(callers.who({.certificate = &edge}).value()->project == "edges");
  CHECK_FALSE(callers.who({.certificate = &other}).has_value());
  CHECK_FALSE(callers.who({}).has_value());
  CHECK_FALSE(callers.who({.authorization = "Bearer x", .certificate = &edge}).has_value());
  const KeyStore::Made made = rig.make();
  callers.refresh();
  const std::string header = "Bearer " + made.text;
  CHECK(callers.who({.authorization = header, .certificate = &edge}).value()->project == "team");
  CHECK(callers.still({.certificate = &edge}).has_value());
  rig.loop.run(callers.close());
}
