#include "identity/secret_store.h"

#include <fmt/format.h>

#include <utility>

#include "core/project.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr const char* kSecretSchema = R"sql(
CREATE TABLE IF NOT EXISTS secret(
  project TEXT NOT NULL,
  name TEXT NOT NULL,
  sealed BLOB NOT NULL,     -- identity/sealing_key.h
  changed INTEGER NOT NULL,
  changed_by TEXT NOT NULL,
  PRIMARY KEY(project, name)
) STRICT, WITHOUT ROWID;
)sql";

std::unexpected<Error> unavailable(std::string_view name, std::string_view why) {
  return refuse(reason::kSecretUnavailable, fmt::format("the secret {}: {}", name, why));
}

Status check_value(std::string_view value) {
  if (value.empty()) return refuse(reason::kInvalidSetting, "a secret's value is empty");
  if (value.size() <= kMaxSecretBytes) return {};
  return refuse(reason::kTooLarge,
                fmt::format("a secret's value is at most {} bytes", kMaxSecretBytes));
}

}  // namespace

// No project's name holds a line's end.
std::string SecretStore::binding(std::string_view project, std::string_view name) {
  return fmt::format("{}\n{}", project, name);
}

Result<std::unique_ptr<SecretStore>> SecretStore::open(const Path& path, const Path& key,
                                                       const Clock& clock, Rng& rng) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the table of secrets", kSecretSchema));
  // What is removed or replaced is to be gone from the file as well.
  TRY(database.execute("overwrite what is removed", "PRAGMA secure_delete = ON"));
  return std::unique_ptr<SecretStore>(new SecretStore(std::move(database), key, clock, rng));
}

Result<std::optional<SealingKey>> SecretStore::key() const {
  const std::optional<KeyBytes> bytes = TRY(read_key_file(
      key_, {.danger = "whoever read it and identity.db knows every secret: set them anew",
             .loss = "put the file back; without it, remove it, delete every secret and set them "
                     "anew"}));
  if (!bytes) return std::nullopt;
  return SealingKey(*bytes);
}

// Whoever asks a function is told why it does not start, but not where the node keeps its files.
std::string SecretStore::without_path(std::string message) const {
  const std::string path = key_.native();
  for (std::size_t at = message.find(path); at != std::string::npos; at = message.find(path, at))
    message.replace(at, path.size(), key_.filename().native());
  return message;
}

Result<SealingKey> SecretStore::key_to_seal() {
  if (const std::optional<SealingKey> known = TRY(key())) return *known;
  Statement any =
      TRY(database_.prepare("look for secrets", "SELECT 1 FROM secret WHERE name < '~' LIMIT 1"));
  if (TRY(any.step())) {
    return refuse(reason::kSecretUnavailable,
                  fmt::format("{} is missing, and the secrets sealed with it open with no other: "
                              "put it back, or delete every secret and set them anew",
                              key_.native()));
  }
  return SealingKey(TRY(create_key_file(key_, rng_)));
}

Result<bool> SecretStore::has(std::string_view project, std::string_view name) {
  Statement query = TRY(database_.prepare("look for a secret",
                                          "SELECT 1 FROM secret WHERE project = ?1 AND name = ?2"));
  query.bind(project, name);
  return query.step();
}

Status SecretStore::check_room(std::string_view project, std::string_view name) {
  if (TRY(has(project, name))) return {};
  Statement query = TRY(database_.prepare(
      "count secrets", "SELECT count(*) FROM secret WHERE project = ?1 AND name < '~'"));
  query.bind(project);
  if (!TRY(query.step()) || query.integer(0) < kMostSecrets) return {};
  return refuse(reason::kConflict, fmt::format("the project {} has {} secrets already; delete some",
                                               project, kMostSecrets));
}

Status SecretStore::set(const Wish& wish) {
  TRY(check_project(wish.project));
  TRY(check_secret_name(wish.name));
  TRY(check_value(wish.value));
  const std::scoped_lock lock(mutex_);
  TRY(check_room(wish.project, wish.name));
  auto key = key_to_seal();
  if (!key) return refuse(reason::kSecretUnavailable, std::move(key).error().message);
  const auto sealed = key->seal(wish.value, binding(wish.project, wish.name), rng_);
  Statement upsert = TRY(
      database_.prepare("keep a secret",
                        "INSERT OR REPLACE INTO secret(project, name, sealed, changed, changed_by) "
                        "VALUES(?1, ?2, ?3, ?4, ?5)"));
  upsert.bind(wish.project, wish.name, std::span<const std::byte>(sealed),
              std::int64_t{clock_.wall_now().time_since_epoch().count()}, wish.who);
  return upsert.run();
}

Result<std::vector<SecretRow>> SecretStore::list(std::string_view project) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare("list secrets",
                                          "SELECT name, changed, changed_by FROM secret WHERE "
                                          "project = ?1 AND name < '~' ORDER BY name"));
  query.bind(project);
  std::vector<SecretRow> rows;
  while (TRY(query.step())) {
    rows.push_back({.name = query.text(0),
                    .changed = WallTime(Duration(query.integer(1))),
                    .changed_by = query.text(2)});
  }
  return rows;
}

Status SecretStore::remove(std::string_view project, std::string_view name) {
  const std::scoped_lock lock(mutex_);
  if (!check_secret_name(name) || !TRY(has(project, name))) {
    return refuse(reason::kNotFound,
                  fmt::format("there is no secret '{}': mayfly secret list shows those there are",
                              name.substr(0, 80)));
  }
  Statement removal = TRY(
      database_.prepare("delete a secret", "DELETE FROM secret WHERE project = ?1 AND name = ?2"));
  removal.bind(project, name);
  return removal.run();
}

Result<Secrets> SecretStore::read(std::string_view project, const std::vector<std::string>& names) {
  if (names.empty()) return nullptr;
  const std::scoped_lock lock(mutex_);
  std::optional<Result<SealingKey>> key_of_all;
  auto secrets = std::make_shared<std::vector<Secret>>();
  Statement query = TRY(database_.prepare(
      "read a secret", "SELECT sealed FROM secret WHERE project = ?1 AND name = ?2"));
  for (const std::string& name : names) {
    query.reset();
    query.bind(project, std::string_view(name));
    if (!TRY(query.step()))
      return unavailable(name,
                         fmt::format("it is not set; set it first: mayfly secret set {}", name));
    if (!key_of_all) {
      auto known = key();
      if (!known) return unavailable(name, without_path(known.error().message));
      if (!*known) return unavailable(name, fmt::format("{} is missing", key_.filename().native()));
      key_of_all.emplace(**known);
    }
    auto value = (*key_of_all)->open(query.blob(0), binding(project, name));
    if (!value) {
      return unavailable(name, fmt::format("it was sealed with another key than that in {}, or is "
                                           "damaged: put the right file back, or set it anew",
                                           key_.filename().native()));
    }
    secrets->push_back({.name = name, .value = *std::move(value)});
  }
  return secrets;
}

}  // namespace mayfly
