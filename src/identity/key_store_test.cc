#include "identity/key_store.h"

#include <sys/stat.h>

#include <filesystem>
#include <future>

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

// The bytes of every file: what was written last stands in the log beside the database.
std::string everything_in(const Path& folder) {
  std::string bytes;
  for (const auto& file : std::filesystem::directory_iterator(folder))
    bytes += read_file(file.path()).value();
  return bytes;
}

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
  const std::string kept = everything_in(f.folder.path());
  CHECK(kept.contains(made.row.id));
  CHECK_FALSE(kept.contains(made.text.substr(20)));
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

TEST_CASE("keys without their secret are not served: the node says what is missing") {
  Fixture f;
  f.make();
  f.store.reset();
  const Path secret = f.folder.path() / "secret";
  const auto open = [&] {
    return KeyStore::open(f.folder.path() / "identity.db", secret, f.clock, f.rng);
  };
  REQUIRE(::chmod(secret.c_str(), 0640) == 0);
  const auto readable = open();
  REQUIRE_FALSE(readable.has_value());
  CHECK(readable.error().message.contains("chmod 600"));
  std::filesystem::remove(secret);
  const auto missing = open();
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().message.contains(secret.native() + " is missing"));
  CHECK_FALSE(std::filesystem::exists(secret));
}

TEST_CASE("a secret is never made over one that is there") {
  Fixture f;
  const Path secret = f.folder.path() / "secret";
  const auto before = read_file(secret).value();
  CHECK_FALSE(NodeSecret::create(secret, f.rng).has_value());
  CHECK(read_file(secret).value() == before);
  CHECK_FALSE(std::filesystem::exists(f.folder.path() / "secret.new"));
}

TEST_CASE("a row that cannot be read is a key that matches nothing, and the others go on") {
  Fixture f;
  const KeyStore::Made good = f.make();
  const KeyStore::Made bad = f.make();
  f.store.reset();
  {
    Database database =
        Database::open(f.folder.path() / "identity.db", OpenMode::ReadWrite).value();
    REQUIRE(
        database.execute("spoil", "UPDATE key SET scopes = 'fly:*' WHERE id = '" + bad.row.id + "'")
            .has_value());
  }
  f.store = f.open();
  CHECK(f.check(good.text).has_value());
  CHECK_FALSE(f.check(bad.text).has_value());
  REQUIRE(f.store->revoke("", good.row.id).has_value());
  f.store = f.open();
  CHECK(f.store->table()->closed());
}

TEST_CASE("a project has a bounded number of keys; revoked and expired ones do not count") {
  Fixture f;
  const Path path = f.folder.path() / "identity.db";
  Database database = Database::open(path, OpenMode::ReadWrite).value();
  const std::string row =
      "INSERT INTO key(id, digest, name, project, scopes, created, created_by, expires, revoked) "
      "SELECT 'x' || value, x'00', '', 'team', 'read', 0, '', NULL, NULL FROM "
      "(WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 1000) "
      "SELECT value FROM n)";
  REQUIRE(database.execute("fill", row).has_value());
  const KeyStore::Wish wish{.name = {}, .project = "team", .scopes = Scopes::all()};
  const auto refused = f.store->create(wish, "");
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().reason == reason::kConflict);
  CHECK(f.store->create({.name = {}, .project = "other", .scopes = Scopes::all()}, "").has_value());
  REQUIRE(database.execute("expire", "UPDATE key SET expires = 1 WHERE id = 'x7'").has_value());
  CHECK(f.store->create(wish, "").has_value());
}

TEST_CASE("the table of keys is had while the database is busy") {
  Fixture f;
  Database other = Database::open(f.folder.path() / "identity.db", OpenMode::ReadWrite).value();
  auto held = std::optional(Transaction::begin(other).value());
  std::promise<void> begun;
  auto making = std::async(std::launch::async, [&] {
    begun.set_value();
    return f.make();  // waits for the other's transaction
  });
  begun.get_future().wait();
  CHECK_FALSE(f.store->table()->closed());
  held.reset();
  CHECK(f.check(making.get().text).has_value());
}
