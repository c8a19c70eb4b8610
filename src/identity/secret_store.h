// The secrets of a node's projects: sealed in identity.db, with a key that lies beside it in a file
// of its own and is made with the first secret. Calls block: they belong on a pool; any thread.
//
// A key that is missing, damaged or of another node stops only what needs it: the store opens, its
// list is read, and each secret that cannot be opened says so with its name.
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
#include "core/secret.h"
#include "identity/sealing_key.h"
#include "identity/webhook_signature.h"
#include "store/sqlite.h"

namespace mayfly {

struct SecretRow {
  std::string name;
  WallTime changed{};
  std::string changed_by;
};

// What a project's webhooks are signed with: kWebhookKeyBytes each.
struct WebhookKeys {
  // How long what is signed with a new key is signed with the one before it, too.
  static constexpr Duration kBothFor = std::chrono::hours(24);

  std::string current;
  WallTime changed{};
  std::string previous = {};  // empty: there is none, or its time is over
  WallTime previous_until = {};
};

class SecretStore {
 public:
  static constexpr std::uint32_t kMostSecrets = 1000;  // of a project

  // `clock` and `rng` outlive the store.
  static Result<std::unique_ptr<SecretStore>> open(const Path& database, const Path& key,
                                                   const Clock& clock, Rng& rng);

  struct Wish {
    std::string_view project;
    std::string_view name;
    std::string_view value;  // 1 to kMaxSecretBytes bytes
    std::string_view who;
  };
  // Makes it or replaces its value. invalid_setting; too_large; conflict: the project has
  // kMostSecrets already.
  Status set(const Wish& wish);
  Result<std::vector<SecretRow>> list(std::string_view project);   // by name
  Status remove(std::string_view project, std::string_view name);  // not_found
  // In the order of `names`; null when there are none. secret_unavailable names the first one that
  // is not set or does not open.
  Result<Secrets> read(std::string_view project, const std::vector<std::string>& names);

  // Made when they are asked for first. secret_unavailable: they do not open.
  Result<WebhookKeys> webhook_keys(std::string_view project);
  Result<WebhookKeys> rotate_webhook_key(std::string_view project, std::string_view who);

  // The private halves of a project's signing keys (identity/signing_key_store.h), by the key's id.
  Status keep_signing_key(std::string_view project, std::string_view id, std::string_view bytes,
                          std::string_view who);
  // secret_unavailable: it does not open, or is not there.
  Result<SecretBytes> signing_key(std::string_view project, std::string_view id);

 private:
  SecretStore(Database database, Path key, const Clock& clock, Rng& rng)
      : database_(std::move(database)), key_(std::move(key)), clock_(clock), rng_(rng) {}
  // Read each time it is needed: what is mended in the file is good without a restart. nullopt:
  // there is none.
  Result<std::optional<SealingKey>> key() const;
  Result<SealingKey> key_to_seal();
  std::string without_path(std::string message) const;
  Result<bool> has(std::string_view project, std::string_view name);
  Status check_room(std::string_view project, std::string_view name);
  // What the value of a name is bound to.
  static std::string binding(std::string_view project, std::string_view name);

  // Secrets of the node's own, whose names no user can choose: mutex_ is held.
  struct OwnSecret {
    std::string value;
    WallTime changed{};
  };
  Result<std::optional<OwnSecret>> own(std::string_view project, std::string_view name);
  Status keep_own(std::string_view project, std::string_view name, std::string_view value,
                  std::string_view who);
  Result<WebhookKeys> make_webhook_key(std::string_view project, std::string_view who);
  std::unexpected<Error> closed_webhooks() const;

  std::mutex mutex_;  // of all below
  Database database_;
  Path key_;
  const Clock& clock_;
  Rng& rng_;
};

}  // namespace mayfly
