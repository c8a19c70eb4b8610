// The keys that a project signs its versions with, and those of others that it trusts, in
// identity.db; private halves are sealed among the secrets. Nothing is ever deleted: a key that was
// revoked stays known as revoked. Calls block: they belong on a pool; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "base/rng.h"
#include "identity/secret_store.h"
#include "signing/model_signature.h"
#include "signing/signing_key.h"
#include "store/sqlite.h"

namespace mayfly {

struct SigningKeyRow {
  std::string name;
  std::string id;    // PublicKey::id()
  std::string pem;   // the public half
  bool own = false;  // the project has the private half; else it only trusts the key
  WallTime created{};
  std::string created_by;
  std::optional<WallTime> revoked = {};
  std::string revoked_by = {};
};

class SigningKeyStore {
 public:
  static constexpr std::uint32_t kMostKeys = 200;  // of a project, revoked ones included

  // `secrets`, `clock` and `rng` outlive the store.
  static Result<std::unique_ptr<SigningKeyStore>> open(const Path& database, SecretStore& secrets,
                                                       const Clock& clock, Rng& rng);

  // A new key, which signs from now on. invalid_setting; conflict: the name is taken.
  Result<SigningKeyRow> create(std::string_view project, std::string_view name,
                               std::string_view who);
  struct Trusting {
    std::string_view project;
    std::string_view name;
    std::string_view pem;
    std::string_view who;
  };
  // conflict: the name is taken, or the key is known already, perhaps as revoked.
  Result<SigningKeyRow> trust(const Trusting& wish);
  Result<std::vector<SigningKeyRow>> list(std::string_view project);  // the oldest first
  // `key`: its name or id. not_found; conflict: it is revoked already.
  Result<SigningKeyRow> revoke(std::string_view project, std::string_view key,
                               std::string_view who);

  struct Signed {
    std::string bundle;
    std::string key;  // its id
  };
  // With the newest key of the project's own that is not revoked; one is made when there is none.
  // secret_unavailable.
  Result<Signed> sign(std::string_view project, const SignedFolder& folder);

  struct Verified {
    SignedFolder folder;
    SigningKeyRow key;
  };
  // What was signed, and by whom. invalid_signature; untrusted_signer: a key that the project does
  // not know, or that was revoked.
  Result<Verified> verify(std::string_view project, std::string_view bundle);

 private:
  SigningKeyStore(Database database, SecretStore& secrets, const Clock& clock, Rng& rng)
      : database_(std::move(database)), secrets_(secrets), clock_(clock), rng_(rng) {}
  // With mutex_ held:
  Result<std::vector<SigningKeyRow>> rows(std::string_view project);
  Status check_free(std::string_view project, std::string_view name, std::string_view id);
  Status insert(std::string_view project, const SigningKeyRow& row);
  Result<SigningKeyRow> make(std::string_view project, std::string_view name, std::string_view who);

  std::mutex mutex_;
  Database database_;
  SecretStore& secrets_;
  const Clock& clock_;
  Rng& rng_;
};

}  // namespace mayfly
