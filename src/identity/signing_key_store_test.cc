#include "identity/signing_key_store.h"

#include <sys/stat.h>

#include <filesystem>

#include "base/testing/fake_clock.h"
#include "core/reason.h"
#include "core/signing_reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

struct SigningFixture {
  TempDir folder = TempDir::create().value();
  Path database = folder.path() / "identity.db";
  FakeClock clock;
  SystemRng rng;
  std::unique_ptr<SecretStore> secrets =
      SecretStore::open(database, folder.path() / "secrets.key", clock, rng).value();
  std::unique_ptr<SigningKeyStore> keys = open();

  std::unique_ptr<SigningKeyStore> open() {
    return SigningKeyStore::open(database, *secrets, clock, rng).value();
  }
  SigningKeyStore::Signed sign(const char* project = "team") {
    return keys->sign(project, folder_of("fraud")).value();
  }
  static SignedFolder folder_of(const char* name) {
    return {.name = name, .files = {{.path = "a", .sha256 = sha256_hex(name)}}, .ignored = {}};
  }
};

template <typename T>
void check_refusal(const Result<T>& result, std::string_view slug, std::string_view words) {
  REQUIRE_FALSE(result.has_value());
  CAPTURE(result.error().message);
  CHECK(result.error().reason == slug);
  CHECK(result.error().message.contains(words));
}

}  // namespace

TEST_CASE_FIXTURE(SigningFixture, "a project's first signature makes its key, which stays") {
  const auto first = sign();
  const auto list = keys->list("team").value();
  REQUIRE(list.size() == 1);
  CHECK(list[0].own);
  CHECK(list[0].id == first.key);
  CHECK(list[0].name == "auto-" + first.key.substr(0, 8));
  keys = open();
  CHECK(sign().key == first.key);
  CHECK(sign("other").key != first.key);
  CHECK(keys->verify("team", first.bundle).value().folder.name == "fraud");
}

TEST_CASE_FIXTURE(SigningFixture, "the newest key that is not revoked signs") {
  const auto old = keys->create("team", "old", "ada").value();
  CHECK(sign().key == old.id);
  const auto signed_by_old = sign();
  const auto fresh = keys->create("team", "new", "ada").value();
  CHECK(sign().key == fresh.id);
  CHECK(keys->revoke("team", "new", "ada").value().revoked_by == "ada");
  CHECK(sign().key == old.id);
  CHECK(keys->verify("team", signed_by_old.bundle).value().key.name == "old");
  CHECK(keys->revoke("team", old.id.substr(0, 16), "ada").value().name == "old");
  const auto next = sign();
  CHECK(next.key != old.id);
  CHECK(next.key != fresh.id);
  check_refusal(keys->verify("team", signed_by_old.bundle), reason::kUntrustedSigner,
                "revoked by ada");
}

TEST_CASE_FIXTURE(SigningFixture,
                  "what another project signed is taken only when its key is trusted") {
  const auto theirs = sign("other");
  check_refusal(keys->verify("team", theirs.bundle), reason::kUntrustedSigner,
                theirs.key.substr(0, 16));
  const std::string pem = keys->list("other").value()[0].pem;
  const auto row = keys->trust({.project = "team", .name = "partner", .pem = pem, .who = "ada"});
  REQUIRE(row.has_value());
  CHECK_FALSE(row->own);
  CHECK(keys->verify("team", theirs.bundle).value().key.name == "partner");
  CHECK(sign().key != theirs.key);  // a key that is only trusted signs nothing
  CHECK(keys->revoke("team", "partner", "ada").has_value());
  check_refusal(keys->verify("team", theirs.bundle), reason::kUntrustedSigner, "revoked");
  check_refusal(keys->trust({.project = "team", .name = "again", .pem = pem, .who = "eve"}),
                reason::kConflict, "stays");
  CHECK(keys->verify("other", theirs.bundle).has_value());
}

TEST_CASE_FIXTURE(SigningFixture, "a hint that names a trusted key does not make its signature") {
  const auto ours = sign();
  Json forged = Json::parse(keys->sign("other", folder_of("fraud")).value().bundle);
  forged["verificationMaterial"]["publicKey"]["hint"] = ours.key;
  check_refusal(keys->verify("team", forged.dump()), reason::kInvalidSignature, "altered");
  forged["verificationMaterial"]["publicKey"].erase("hint");
  check_refusal(keys->verify("team", forged.dump()), reason::kUntrustedSigner, "does not say");
  Json without_hint = Json::parse(ours.bundle);
  without_hint["verificationMaterial"]["publicKey"].erase("hint");
  CHECK(keys->verify("team", without_hint.dump()).value().key.id == ours.key);
}

TEST_CASE_FIXTURE(SigningFixture, "names and keys are checked") {
  check_refusal(keys->create("team", "a b", "ada"), reason::kInvalidSetting, "letters");
  check_refusal(keys->create("team", std::string(65, 'a'), "ada"), reason::kInvalidSetting, "64");
  const auto key = keys->create("team", "mine", "ada").value();
  check_refusal(keys->create("team", "mine", "ada"), reason::kConflict, "mine already");
  check_refusal(keys->trust({.project = "team", .name = "x", .pem = "nothing", .who = "ada"}),
                reason::kInvalidSetting, "PEM");
  check_refusal(keys->trust({.project = "team", .name = "x", .pem = key.pem, .who = "ada"}),
                reason::kConflict, "as mine");
  check_refusal(keys->revoke("team", "nobody", "ada"), reason::kNotFound, "signing-key list");
  CHECK(keys->revoke("team", "mine", "ada").has_value());
  check_refusal(keys->revoke("team", "mine", "ada"), reason::kConflict, "already");
}

TEST_CASE_FIXTURE(SigningFixture,
                  "private halves are sealed, and the right file opens them again") {
  const auto first = sign();
  const Path key = folder.path() / "secrets.key";
  std::filesystem::rename(key, folder.path() / "away");
  check_refusal(keys->sign("team", folder_of("fraud")), reason::kSecretUnavailable, "secrets.key");
  // Verifying needs none.
  CHECK(keys->verify("team", first.bundle).has_value());
  std::filesystem::rename(folder.path() / "away", key);
  CHECK(sign().key == first.key);
  // Sealed for one key it is no other's.
  Database raw = Database::open(database, OpenMode::ReadWrite).value();
  const auto second = keys->create("team", "second", "ada").value();
  REQUIRE(raw.execute("swap",
                      "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE name = "
                      "'~signing." +
                          first.key + "') WHERE name = '~signing." + second.id + "'"));
  check_refusal(keys->sign("team", folder_of("fraud")), reason::kSecretUnavailable, "signing-key");
}

TEST_CASE_FIXTURE(SigningFixture, "keys are never deleted, and stay revoked") {
  sign();
  REQUIRE(keys->revoke("team", keys->list("team").value()[0].id, "ada").has_value());
  Database raw = Database::open(database, OpenMode::ReadWrite).value();
  CHECK_FALSE(raw.execute("delete", "DELETE FROM signing_key"));
  CHECK_FALSE(raw.execute("restore", "UPDATE signing_key SET revoked = NULL"));
}
