#include "identity/key_store.h"

#include <sys/stat.h>

#include "base/testing/fake_clock.h"
#include "core/caller_reason.h"
#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

struct Fixture {
  TempDir folder = TempDir::create().value();
  FakeClock clock;
  SystemRng rng;
  std::unique_ptr<KeyStore> store = open();

  std::unique_ptr<KeyStore> open() {
    return KeyStore::open(folder.path() / "identity.db", folder.path() / "secret", clock, rng)
        .value();
  }
  KeyStore::Made make(const char* project = "default", std::optional<WallTime> expires = {}) {
    return store
        ->create({.name = "ci",
                  .project = project,
                  .scopes = Scopes::parse("invoke:fraud").value(),
                  .expires = expires},
                 "tester")
        .value();
  }
  Result<PrincipalRef> check(std::string_view text) {
    return store->table()->check(text, clock.wall_now());
  }
};

}  // namespace

TEST_CASE("a key is known by its text only, before and after a restart") {
  Fixture f;
  CHECK_FALSE(f.store->table()->closed());
  const KeyStore::Made made = f.make("team");
  for (int restart = 0; restart < 2; ++restart) {
    const PrincipalRef who = f.check(made.text).value();
    CHECK(who->project == "team");
    CHECK(who->name == "ci (key:" + made.row.id + ")");
    CHECK(who->scopes.str() == "invoke:fraud");
    CHECK(f.store->table()->closed());
    f.store = f.open();
  }
  const auto file = read_file(f.folder.path() / "identity.db").value();
  CHECK(file.find(made.text.substr(20)) == std::string::npos);
  struct stat status{};
  REQUIRE(::stat((f.folder.path() / "secret").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0600);
}

TEST_CASE("what is not exactly a key of this node is refused in the same words") {
  Fixture f;
  const std::string good = f.make().text;
  Fixture other;
  std::string last = good;
  last.back() = last.back() == 'A' ? 'B' : 'A';
  for (const std::string& bad :
       {std::string(), std::string("mayfly_"), good.substr(0, good.size() - 1), good + "A", last,
        "x" + good, other.make().text, std::string(good.size(), 'a')}) {
    const auto refused = f.check(bad);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().reason == reason::kUnauthenticated);
    CHECK(refused.error().message == f.check("").error().message);
  }
}

TEST_CASE("the same database under another node's secret knows no key") {
  Fixture f;
  const std::string text = f.make().text;
  f.store.reset();
  REQUIRE(write_file_durably(f.folder.path() / "secret", std::string(32, 'x')).has_value());
  f.store = f.open();
  CHECK_FALSE(f.check(text).has_value());
  REQUIRE(write_file_durably(f.folder.path() / "secret", "short").has_value());
  const auto opened =
      KeyStore::open(f.folder.path() / "identity.db", f.folder.path() / "secret", f.clock, f.rng);
  CHECK_FALSE(opened.has_value());
}

TEST_CASE("a key ends when it expires") {
  Fixture f;
  const std::string text = f.make("default", f.clock.wall_now() + 1h).text;
  f.clock.advance(1h - 1ns);
  CHECK(f.check(text).has_value());
  f.clock.advance(1ns);
  CHECK_FALSE(f.check(text).has_value());
  CHECK_FALSE(f.store
                  ->create({.name = "",
                            .project = "default",
                            .scopes = Scopes::all(),
                            .expires = f.clock.wall_now()},
                           "")
                  .has_value());
}

TEST_CASE("a revoked key ends at once, and the node stays closed") {
  Fixture f;
  const KeyStore::Made made = f.make("team");
  CHECK(f.store->revoke("other", made.row.id).error().reason == reason::kNotFound);
  CHECK(f.check(made.text).has_value());
  CHECK(f.store->revoke("team", made.row.id).has_value());
  CHECK_FALSE(f.check(made.text).has_value());
  CHECK(f.store->revoke("team", made.row.id).error().reason == reason::kNotFound);
  f.store = f.open();
  CHECK_FALSE(f.check(made.text).has_value());
  CHECK(f.store->table()->closed());
}

TEST_CASE("keys are listed by project, with their last use") {
  Fixture f;
  const std::string first = f.make("team").row.id;
  f.make("other");
  f.clock.advance(1min);
  REQUIRE(f.store->mark_used({{first, f.clock.wall_now()}, {"unknown", {}}}).has_value());
  const std::vector<KeyRow> keys = f.store->list("team").value();
  REQUIRE(keys.size() == 1);
  CHECK(keys[0].id == first);
  CHECK(keys[0].last_used == f.clock.wall_now());
  CHECK(keys[0].created_by == "tester");
  CHECK(f.store->list("")->size() == 2);
}
