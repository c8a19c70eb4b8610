#include "identity/secret_store.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/testing/fake_clock.h"
#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

constexpr const char* kPlain = "correct horse battery staple";

struct SecretFixture {
  TempDir folder = TempDir::create().value();
  Path database = folder.path() / "identity.db";
  Path key = folder.path() / "secrets.key";
  FakeClock clock;
  SystemRng rng;
  std::unique_ptr<SecretStore> store = open();

  std::unique_ptr<SecretStore> open() {
    return SecretStore::open(database, key, clock, rng).value();
  }
  Status set(const char* name, std::string_view value = kPlain, const char* project = "default") {
    return store->set({.project = project, .name = name, .value = value, .who = "tester"});
  }
  Result<Secrets> read(const char* name, const char* project = "default") {
    return store->read(project, {name});
  }
  bool on_disk(std::string_view text) const {
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file), {}};
      if (bytes.contains(text)) return true;
    }
    return false;
  }
  void check_unavailable(const Result<Secrets>& read, std::string_view words) const {
    REQUIRE_FALSE(read.has_value());
    CHECK(read.error().reason == reason::kSecretUnavailable);
    CHECK(read.error().message.contains(words));
  }
};

}  // namespace

TEST_CASE("a secret is read as it was set, and its value is nowhere on the disk") {
  SecretFixture f;
  REQUIRE(f.set("API_KEY"));
  const auto read = f.read("API_KEY");
  REQUIRE(read.has_value());
  REQUIRE((*read)->size() == 1);
  CHECK((*read)->front().name == "API_KEY");
  CHECK((*read)->front().value.view() == kPlain);
  CHECK_FALSE(f.on_disk(kPlain));
  CHECK(f.on_disk("API_KEY"));  // the search finds what is there
  struct stat status{};
  REQUIRE(::stat(f.key.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  f.store = f.open();
  CHECK(f.read("API_KEY").value()->front().value.view() == kPlain);
}

TEST_CASE("equal values are sealed differently each time, and each for its name alone") {
  SystemRng rng;
  const SealingKey key(KeyBytes{});
  const auto first = key.seal(kPlain, "default\nA", rng);
  CHECK(first != key.seal(kPlain, "default\nA", rng));
  CHECK(key.open(first, "default\nA")->view() == kPlain);
  CHECK_FALSE(key.open(first, "default\nB").has_value());
  CHECK_FALSE(SealingKey(KeyBytes{std::byte{1}}).open(first, "default\nA").has_value());
  for (const std::size_t at : {std::size_t{0}, std::size_t{12}, first.size() - 1}) {
    auto damaged = first;
    damaged[at] ^= std::byte{1};
    CHECK_FALSE(key.open(damaged, "default\nA").has_value());
  }
  for (std::size_t size = 0; size < first.size(); ++size)
    CHECK_FALSE(key.open(std::span(first).first(size), "default\nA").has_value());
}

TEST_CASE("a project has its own secrets, listed without their values") {
  SecretFixture f;
  REQUIRE(f.set("B"));
  REQUIRE(f.set("A"));
  REQUIRE(f.set("A", "of the team", "team"));
  const auto rows = f.store->list("default").value();
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].name == "A");
  CHECK(rows[1].changed_by == "tester");
  CHECK(f.read("A", "team").value()->front().value.view() == "of the team");
  f.check_unavailable(f.read("B", "team"), "mayfly secret set B");
  REQUIRE(f.store->remove("default", "A"));
  CHECK(f.store->remove("default", "A").error().reason == reason::kNotFound);
  f.check_unavailable(f.read("A"), "not set");
  CHECK(f.read("A", "team").has_value());
}

TEST_CASE("a value replaces the one before; what none can be is refused") {
  SecretFixture f;
  REQUIRE(f.set("A"));
  REQUIRE(f.set("A", "new"));
  CHECK(f.read("A").value()->front().value.view() == "new");
  CHECK(f.set("A", "").error().reason == reason::kInvalidSetting);
  CHECK(f.set("a/b").error().reason == reason::kInvalidSetting);
  const std::string largest(kMaxSecretBytes, 'x');
  REQUIRE(f.set("A", largest));
  CHECK(f.read("A").value()->front().value.view() == largest);
  CHECK(f.set("A", largest + "x").error().reason == reason::kTooLarge);
}

TEST_CASE("with its key missing, damaged or foreign a store opens and says what to do") {
  SecretFixture f;
  REQUIRE(f.set("A"));
  const Path aside = f.folder.path() / "aside";
  std::filesystem::rename(f.key, aside);
  f.store = f.open();
  CHECK(f.store->list("default").value().size() == 1);
  f.check_unavailable(f.read("A"), "secrets.key is missing");
  const Status no_key = f.set("B");
  REQUIRE_FALSE(no_key.has_value());
  CHECK(no_key.error().message.contains("put it back"));
  CHECK_FALSE(std::filesystem::exists(f.key));

  REQUIRE(write_file_durably(f.key, "short"));
  f.check_unavailable(f.read("A"), "must hold 32 bytes");
  REQUIRE(write_file_durably(f.key, std::string(32, 'k')));
  f.check_unavailable(f.read("A"), "another key");
  REQUIRE(f.set("A", "anew"));  // sealed with the key that there is now
  CHECK(f.read("A").value()->front().value.view() == "anew");
  ::chmod(f.key.c_str(), 0644);
  f.check_unavailable(f.read("A"), "chmod 600");
}

TEST_CASE("after the last secret of a lost key a new key is made") {
  SecretFixture f;
  REQUIRE(f.set("A"));
  std::filesystem::remove(f.key);
  REQUIRE(f.store->remove("default", "A"));
  REQUIRE(f.set("A", "again"));
  CHECK(f.read("A").value()->front().value.view() == "again");
}

TEST_CASE("a project's webhooks have a key of their own, which nobody can set, list or delete") {
  SecretFixture f;
  const WebhookKeys first = f.store->webhook_keys("default").value();
  CHECK(first.current.size() == kWebhookKeyBytes);
  CHECK(first.previous.empty());
  CHECK(f.store->webhook_keys("default")->current == first.current);
  CHECK(f.store->webhook_keys("team")->current != first.current);
  CHECK(f.store->list("default")->empty());
  CHECK(f.store->remove("default", "~webhook").error().reason == reason::kNotFound);
  CHECK_FALSE(f.store->read("default", {"~webhook2"}).has_value());
}

TEST_CASE("a new key of webhooks stands beside the one before it for a day") {
  SecretFixture f;
  const std::string first = f.store->webhook_keys("default")->current;
  const WebhookKeys rotated = f.store->rotate_webhook_key("default", "ann").value();
  CHECK(rotated.current != first);
  CHECK(rotated.previous == first);
  f.clock.advance(WebhookKeys::kBothFor - std::chrono::seconds(1));
  CHECK(f.store->webhook_keys("default")->previous == first);
  f.clock.advance(std::chrono::seconds(1));
  CHECK(f.store->webhook_keys("default")->previous.empty());
  CHECK(f.store->webhook_keys("default")->current == rotated.current);
}

TEST_CASE("webhooks whose key does not open say so, until there is a new one") {
  SecretFixture f;
  const std::string first = f.store->webhook_keys("default")->current;
  REQUIRE(f.store->rotate_webhook_key("default", "ann").has_value());  // the first stands beside it
  std::filesystem::remove(f.key);
  CHECK(f.store->webhook_keys("default").error().reason == reason::kSecretUnavailable);
  const WebhookKeys rotated = f.store->rotate_webhook_key("default", "ann").value();
  CHECK(rotated.current != first);
  CHECK(rotated.previous.empty());
  CHECK(f.store->webhook_keys("default")->current == rotated.current);
}
