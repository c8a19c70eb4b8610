// The keys that a project's webhooks are signed with: secrets of the node's own making, under names
// that no secret of a user can have.
#include <array>
#include <utility>

#include "core/project.h"
#include "core/reason.h"
#include "identity/secret_store.h"

namespace mayfly {
namespace {

constexpr std::string_view kKeyName = "~webhook";
constexpr std::string_view kPreviousName = "~webhook.previous";

}  // namespace

Result<std::optional<SecretStore::OwnSecret>> SecretStore::own(std::string_view project,
                                                               std::string_view name) {
  Statement query =
      TRY(database_.prepare("read a key of webhooks",
                            "SELECT sealed, changed FROM secret WHERE project = ?1 AND name = ?2"));
  query.bind(project, name);
  if (!TRY(query.step())) return std::nullopt;
  const auto sealing = key();
  if (!sealing) return refuse(reason::kSecretUnavailable, without_path(sealing.error().message));
  if (!*sealing) return closed_webhooks();
  auto value = (*sealing)->open(query.blob(0), binding(project, name));
  if (!value) return closed_webhooks();
  return OwnSecret{.value = std::string(value->view()),
                   .changed = WallTime(Duration(query.integer(1)))};
}

std::unexpected<Error> SecretStore::closed_webhooks() const {
  return refuse(reason::kSecretUnavailable,
                "the key of the project's webhooks was sealed with another key than that in "
                "secrets.key: put the right file back, or make a new one: mayfly webhook rotate");
}

Status SecretStore::keep_own(std::string_view project, std::string_view name,
                             std::string_view value, std::string_view who) {
  auto sealing = key_to_seal();
  if (!sealing)
    return refuse(reason::kSecretUnavailable, without_path(std::move(sealing).error().message));
  const auto sealed = sealing->seal(value, binding(project, name), rng_);
  Statement upsert = TRY(
      database_.prepare("keep a key of webhooks",
                        "INSERT OR REPLACE INTO secret(project, name, sealed, changed, changed_by) "
                        "VALUES(?1, ?2, ?3, ?4, ?5)"));
  upsert.bind(project, name, std::span<const std::byte>(sealed),
              std::int64_t{clock_.wall_now().time_since_epoch().count()}, who);
  return upsert.run();
}

Result<WebhookKeys> SecretStore::make_webhook_key(std::string_view project, std::string_view who) {
  std::array<std::byte, kWebhookKeyBytes> bytes{};
  rng_.fill(bytes);
  WebhookKeys keys{.current = {reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                   .changed = clock_.wall_now()};
  TRY(keep_own(project, kKeyName, keys.current, who));
  return keys;
}

Result<WebhookKeys> SecretStore::webhook_keys(std::string_view project) {
  TRY(check_project(project));
  const std::scoped_lock lock(mutex_);
  auto current = TRY(own(project, kKeyName));
  if (!current) return make_webhook_key(project, "mayfly");
  WebhookKeys keys{.current = std::move(current->value), .changed = current->changed};
  auto previous = TRY(own(project, kPreviousName));
  if (previous && clock_.wall_now() < previous->changed + WebhookKeys::kBothFor) {
    keys.previous = std::move(previous->value);
    keys.previous_until = previous->changed + WebhookKeys::kBothFor;
  }
  return keys;
}

// A key that opens no more signs nothing: then the new one is alone.
Result<WebhookKeys> SecretStore::rotate_webhook_key(std::string_view project,
                                                    std::string_view who) {
  TRY(check_project(project));
  const std::scoped_lock lock(mutex_);
  auto before = own(project, kKeyName);
  if (!before && before.error().reason != reason::kSecretUnavailable)
    return std::unexpected(std::move(before).error());
  Transaction transaction = TRY(Transaction::begin(database_));
  const bool known = before && *before;
  if (known) {
    TRY(keep_own(project, kPreviousName, (*before)->value, who));
  } else {
    Statement drop = TRY(database_.prepare("drop the previous key of webhooks",
                                           "DELETE FROM secret WHERE project = ?1 AND name = ?2"));
    drop.bind(project, kPreviousName);
    TRY(drop.run());
  }
  WebhookKeys keys = TRY(make_webhook_key(project, who));
  TRY(transaction.commit());
  if (known) {
    keys.previous = std::move((*before)->value);
    keys.previous_until = clock_.wall_now() + WebhookKeys::kBothFor;
  }
  return keys;
}

}  // namespace mayfly
