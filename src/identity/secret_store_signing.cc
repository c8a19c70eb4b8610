// The private halves of signing keys: secrets of the node's own making, under names that no secret
// of a user can have.
#include <fmt/format.h>
#include <openssl/crypto.h>

#include "core/project.h"
#include "core/reason.h"
#include "identity/secret_store.h"

namespace mayfly {
namespace {

std::string signing_secret(std::string_view id) { return fmt::format("~signing.{}", id); }

}  // namespace

Status SecretStore::keep_signing_key(std::string_view project, std::string_view id,
                                     std::string_view bytes, std::string_view who) {
  TRY(check_project(project));
  const std::scoped_lock lock(mutex_);
  return keep_own(project, signing_secret(id), bytes, who);
}

Result<SecretBytes> SecretStore::signing_key(std::string_view project, std::string_view id) {
  const std::scoped_lock lock(mutex_);
  auto found = own(project, signing_secret(id));
  if (found && *found) {
    SecretBytes bytes((*found)->value);
    OPENSSL_cleanse((*found)->value.data(), (*found)->value.size());
    return bytes;
  }
  if (!found && found.error().reason != reason::kSecretUnavailable)
    return std::unexpected(std::move(found).error());
  return refuse(reason::kSecretUnavailable,
                fmt::format("the private half of the signing key {} does not open with the key in "
                            "secrets.key: put the right file back, or revoke it and make a new "
                            "one: mayfly signing-key create",
                            id.substr(0, 16)));
}

}  // namespace mayfly
