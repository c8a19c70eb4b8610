#include "gateway/token_issuers.h"

#include <fmt/format.h>

#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/testing/fake_clock.h"
#include "core/caller_reason.h"
#include "gateway/callers.h"
#include "identity/testing/test_issuer.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

// What an issuer publishes, asked from the pool's thread.
struct Published {
  std::mutex mutex;
  Result<std::string> text = "";
  int asked = 0;

  void set(Result<std::string> next) {
    const std::scoped_lock lock(mutex);
    text = std::move(next);
  }
  Result<std::string> fetch() {
    const std::scoped_lock lock(mutex);
    ++asked;
    return text;
  }
  int times() {
    const std::scoped_lock lock(mutex);
    return asked;
  }
};

std::vector<TokenIssuer> mapping(const char* jwks) {
  return parse_issuers(fmt::format(R"({{"issuers":[{{"issuer":"https://idp","audience":"mayfly",
      "jwks":"{}","project":"team","scopes":"read"}}]}})",
                                   jwks))
      .value();
}

struct IssuerRig {
  FakeClock clock;
  Loop loop{clock};
  TestIssuer old_key{"ES256", "old"};
  TestIssuer new_key{"ES256", "new"};
  Published published;
  std::optional<TokenIssuers> issuers;

  explicit IssuerRig(const char* jwks = "https://idp/keys") {
    published.set(old_key.key_set());
    issuers.emplace(loop, mapping(jwks), [this](const TokenIssuer&) { return published.fetch(); });
    issuers->start();
  }
  ~IssuerRig() { loop.run(issuers->close()); }

  std::string token(const TestIssuer& key, std::chrono::seconds life = 600s) const {
    const auto now =
        std::chrono::duration_cast<std::chrono::seconds>(clock.wall_now().time_since_epoch());
    return key.token(fmt::format(R"({{"iss":"https://idp","sub":"ann","aud":"mayfly","exp":{}}})",
                                 (now + life).count()));
  }
  bool accepts(const std::string& text) { return issuers->check(text).has_value(); }
};

}  // namespace

TEST_CASE("a token waits for the keys of its issuer, and is then known without asking again") {
  IssuerRig rig;
  const std::string token = rig.token(rig.old_key);
  CHECK_FALSE(rig.accepts(token));
  REQUIRE(rig.issuers->may_learn(token));
  rig.loop.run(rig.issuers->learn(token));
  const PrincipalRef who = rig.issuers->check(token).value();
  CHECK(who->project == "team");
  CHECK(who->name == "ann (idp)");
  CHECK(rig.issuers->check(token).value() == who);  // the same, from memory
  CHECK_FALSE(rig.issuers->may_learn(token));
  CHECK(rig.published.times() == 1);
  rig.clock.advance(661s);
  CHECK_FALSE(rig.accepts(token));
}

TEST_CASE("a key that is not known is asked for once in thirty seconds at most") {
  IssuerRig rig;
  rig.loop.run(rig.issuers->learn(rig.token(rig.old_key)));
  const std::string token = rig.token(rig.new_key);
  CHECK_FALSE(rig.issuers->may_learn(token));
  rig.clock.advance(29s);
  CHECK_FALSE(rig.issuers->may_learn(token));
  rig.clock.advance(1s);
  CHECK(rig.issuers->may_learn(token));
  rig.published.set(rig.new_key.key_set());
  rig.loop.run(rig.issuers->learn(token));
  CHECK(rig.accepts(token));
  CHECK_FALSE(rig.accepts(rig.token(rig.old_key)));
  CHECK_FALSE(rig.issuers->may_learn("a.b.c"));
}

TEST_CASE("what was verified with a key that is gone is not believed from memory") {
  IssuerRig rig;
  const std::string token = rig.token(rig.old_key);
  rig.loop.run(rig.issuers->learn(token));
  REQUIRE(rig.accepts(token));
  rig.published.set(rig.new_key.key_set());
  rig.clock.advance(30s);
  rig.loop.run(rig.issuers->learn(rig.token(rig.new_key)));
  CHECK_FALSE(rig.accepts(token));
}

TEST_CASE("keys that cannot be fetched or read leave the last ones where they are") {
  IssuerRig rig;
  const std::string token = rig.token(rig.old_key);
  rig.loop.run(rig.issuers->learn(token));
  for (const Result<std::string>& bad :
       {Result<std::string>(fail(Code::Unavailable, "down")), Result<std::string>("not JSON")}) {
    rig.published.set(bad);
    rig.clock.advance(30s);
    rig.loop.run(rig.issuers->learn(rig.token(rig.new_key)));
    CHECK(rig.accepts(rig.token(rig.old_key)));
  }
  CHECK(rig.published.times() == 3);
}

TEST_CASE("an address is asked again after ten minutes, a file after ten seconds") {
  for (const auto& [jwks, wait] :
       {std::pair("https://idp/keys", Duration(10min)), std::pair("/etc/keys", Duration(10s))}) {
    IssuerRig rig(jwks);
    rig.loop.run(rig.issuers->learn(rig.token(rig.old_key)));
    rig.published.set(rig.new_key.key_set());
    rig.clock.advance(wait - 1ns);
    rig.loop.poll();
    CHECK(rig.published.times() == 1);
    rig.clock.advance(1ns);
    rig.loop.poll();
    // Unless it has ended within that turn, this joins the fetch that goes on.
    if (!rig.accepts(rig.token(rig.new_key)))
      rig.loop.run(rig.issuers->learn(rig.token(rig.new_key)));
    CHECK(rig.published.times() == 2);
    CHECK(rig.accepts(rig.token(rig.new_key)));
  }
}

TEST_CASE("an issuer closes the node, and keys are taken beside its tokens") {
  IssuerRig rig;
  rig.loop.run(rig.issuers->learn(rig.token(rig.old_key)));
  const TempDir folder = TempDir::create().value();
  SystemRng rng;
  Pool pool(rig.loop, "control", 1);
  const auto keys =
      KeyStore::open(folder.path() / "identity.db", folder.path() / "secret", rig.clock, rng)
          .value();
  const auto audit = AuditLog::open(folder.path() / "identity.db").value();
  Callers callers({rig.loop, pool, *keys, *audit, &*rig.issuers});
  CHECK(callers.closed());
  CHECK(callers.who({}).error().reason == reason::kUnauthenticated);
  const auto who = [&](const std::string& credential) {
    const std::string header = "Bearer " + credential;
    return callers.who({.authorization = header});
  };
  CHECK(who(rig.token(rig.old_key)).value()->name == "ann (idp)");
  CHECK_FALSE(who(rig.token(rig.new_key)).has_value());
  const auto made =
      keys->create({.name = {}, .project = "team", .scopes = Scopes::all()}, "").value();
  callers.refresh();
  CHECK(who(made.text).value()->means == Principal::Means::Key);
  rig.loop.run(callers.close());
}
