#include "identity/key_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/caller_reason.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr const char* kKeySchema = R"sql(
CREATE TABLE IF NOT EXISTS key(           -- revoked ones stay: their ids are never given again
  id TEXT PRIMARY KEY,
  digest BLOB NOT NULL,
  name TEXT NOT NULL,
  project TEXT NOT NULL,
  scopes TEXT NOT NULL,
  created INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  expires INTEGER,
  last_used INTEGER,
  revoked INTEGER
) STRICT;
)sql";

constexpr std::size_t kMaxKeyName = 100;

std::int64_t as_number(WallTime time) { return time.time_since_epoch().count(); }

std::optional<WallTime> time_in(const Statement& row, int column) {
  if (row.is_null(column)) return std::nullopt;
  return WallTime(Duration(row.integer(column)));
}

std::optional<std::int64_t> optional_number(std::optional<WallTime> time) {
  if (!time) return std::nullopt;
  return as_number(*time);
}

std::string principal_name(std::string_view id, std::string_view name) {
  return name.empty() ? fmt::format("key:{}", id) : fmt::format("{} (key:{})", name, id);
}

Status check_key_name(std::string_view name) {
  const auto visible = [](char c) { return c >= ' ' && c != 127; };
  if (name.size() <= kMaxKeyName && std::ranges::all_of(name, visible)) return {};
  return refuse(reason::kInvalidSetting,
                fmt::format("a key's name is at most {} visible characters", kMaxKeyName));
}

}  // namespace

Result<PrincipalRef> KeyTable::check(std::string_view text, WallTime now) const {
  const auto id = api_key_id(text);
  const auto found = id ? keys_.find(*id) : keys_.end();
  if (found != keys_.end()) {
    const Entry& entry = found->second;
    const bool genuine = same_digest(secret_.digest(text), entry.digest);
    if (genuine && !entry.revoked && (!entry.expires || now < *entry.expires))
      return entry.principal;
  }
  return refuse(reason::kUnauthenticated,
                "the key is not one of this node, has expired, or was revoked");
}

Result<std::unique_ptr<KeyStore>> KeyStore::open(const Path& path, const Path& secret,
                                                 const Clock& clock, Rng& rng) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the table of keys", kKeySchema));
  const NodeSecret opened = TRY(NodeSecret::open(secret, rng));
  std::unique_ptr<KeyStore> store(new KeyStore(std::move(database), opened, clock, rng));
  TRY(store->publish());
  return store;
}

Status KeyStore::publish() {
  Statement query = TRY(database_.prepare(
      "read keys", "SELECT id, digest, name, project, scopes, expires, revoked FROM key"));
  std::map<std::string, KeyTable::Entry, std::less<>> keys;
  while (TRY(query.step())) {
    KeyTable::Entry entry;
    const auto digest = query.blob(1);
    if (digest.size() != entry.digest.bytes.size())
      return fail(Code::DataLoss, "identity.db holds a malformed digest");
    std::ranges::copy(digest, entry.digest.bytes.begin());
    const std::string id = query.text(0);
    entry.principal =
        std::make_shared<const Principal>(Principal{.means = Principal::Means::Key,
                                                    .project = query.text(3),
                                                    .name = principal_name(id, query.text(2)),
                                                    .scopes = TRY(Scopes::parse(query.text(4)))});
    entry.expires = time_in(query, 5);
    entry.revoked = !query.is_null(6);
    keys.emplace(id, std::move(entry));
  }
  table_ = std::make_shared<const KeyTable>(secret_, std::move(keys));
  return {};
}

Result<KeyStore::Made> KeyStore::create(const Wish& wish, std::string_view who) {
  TRY(check_key_name(wish.name));
  const WallTime now = clock_.wall_now();
  if (wish.expires && *wish.expires <= now)
    return refuse(reason::kInvalidSetting, "the key would have expired already");
  const ApiKey key = make_api_key(rng_);
  const std::scoped_lock lock(mutex_);
  Statement insert = TRY(
      database_.prepare("keep a key",
                        "INSERT INTO key(id, digest, name, project, scopes, created, created_by, "
                        "expires) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"));
  const Digest digest = secret_.digest(key.text);
  insert.bind(std::string_view(key.id), std::span<const std::byte>(digest.bytes),
              std::string_view(wish.name), std::string_view(wish.project),
              std::string_view(wish.scopes.str()), as_number(now), who,
              optional_number(wish.expires));
  TRY(insert.run());
  TRY(publish());
  return Made{.row = {.id = key.id,
                      .name = wish.name,
                      .project = wish.project,
                      .scopes = wish.scopes.str(),
                      .created = now,
                      .created_by = std::string(who),
                      .expires = wish.expires},
              .text = key.text};
}

Result<std::vector<KeyRow>> KeyStore::list(std::string_view project) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare(
      "list keys",
      "SELECT id, name, project, scopes, created, created_by, expires, last_used, revoked "
      "FROM key WHERE ?1 = '' OR project = ?1 ORDER BY created, id"));
  query.bind(project);
  std::vector<KeyRow> rows;
  while (TRY(query.step())) {
    rows.push_back({.id = query.text(0),
                    .name = query.text(1),
                    .project = query.text(2),
                    .scopes = query.text(3),
                    .created = WallTime(Duration(query.integer(4))),
                    .created_by = query.text(5),
                    .expires = time_in(query, 6),
                    .last_used = time_in(query, 7),
                    .revoked = time_in(query, 8)});
  }
  return rows;
}

Status KeyStore::revoke(std::string_view project, std::string_view id) {
  const std::scoped_lock lock(mutex_);
  Statement update =
      TRY(database_.prepare("revoke a key",
                            "UPDATE key SET revoked = ?3 WHERE id = ?2 AND revoked IS NULL AND "
                            "(?1 = '' OR project = ?1) RETURNING id"));
  update.bind(project, id, as_number(clock_.wall_now()));
  const bool found = TRY(update.step());
  TRY(update.run());
  if (!found) {
    return refuse(reason::kNotFound, fmt::format("there is no valid key '{}'", id.substr(0, 40)));
  }
  return publish();
}

Status KeyStore::mark_used(const std::map<std::string, WallTime, std::less<>>& used) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  Statement update = TRY(
      database_.prepare("note when keys were used", "UPDATE key SET last_used = ?2 WHERE id = ?1"));
  for (const auto& [id, time] : used) {
    update.bind(std::string_view(id), as_number(time));
    TRY(update.run());
  }
  return transaction.commit();
}

KeyTableRef KeyStore::table() const {
  const std::scoped_lock lock(mutex_);
  return table_;
}

}  // namespace mayfly
