#include "app/vault.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "identity/key_file.h"

namespace mayfly {
namespace {

Result<PrivateKey> open_node_key(const Path& path, Rng& rng) {
  std::optional<KeyBytes> bytes = TRY(read_key_file(
      path, {.danger = "whoever read it can make the node run other code: remove it",
             .loss = "remove it; the node makes another, and its compiled artifacts again"}));
  if (!bytes) bytes = TRY(create_key_file(path, rng));
  auto key = PrivateKey::create(*bytes);
  if (key) return *std::move(key);
  return fail(Code::DataLoss, fmt::format("{} is no key; remove it: the node makes another, and "
                                          "its compiled artifacts again",
                                          path.native()));
}

}  // namespace

Result<Vault> Vault::open(const DataDir& data, const Clock& clock, Rng& rng) {
  auto secrets = TRY(SecretStore::open(data.identity_db(), data.secrets_key(), clock, rng));
  auto signing = TRY(SigningKeyStore::open(data.identity_db(), *secrets, clock, rng));
  PrivateKey key = TRY(open_node_key(data.node_key(), rng));
  return Vault{
      .secrets = std::move(secrets), .signing = std::move(signing), .node_key = std::move(key)};
}

}  // namespace mayfly
