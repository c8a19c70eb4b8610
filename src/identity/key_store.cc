#include "identity/key_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
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

PrincipalRef key_principal(std::string_view id, std::string_view name, std::string project,
                           Scopes scopes) {
  return std::make_shared<const Principal>(Principal{.means = Principal::Means::Key,
                                                     .project = std::move(project),
                                                     .name = principal_name(id, name),
                                                     .scopes = std::move(scopes)});
}

// The columns of load().
Result<KeyTable::Entry> read_entry(const Statement& row, std::string_view id) {
  KeyTable::Entry entry;
  const auto digest = row.blob(1);
  if (digest.size() != entry.digest.bytes.size())
    return fail(Code::DataLoss, "its digest is malformed");
  std::ranges::copy(digest, entry.digest.bytes.begin());
  entry.principal = key_principal(id, row.text(2), row.text(3), TRY(Scopes::parse(row.text(4))));
  entry.expires = time_in(row, 5);
  return entry;
}

Status check_no_keys(Database& database, const Path& path, const Path& secret) {
  Statement query = TRY(database.prepare("look for keys", "SELECT 1 FROM key LIMIT 1"));
  if (!TRY(query.step())) return {};
  return fail(Code::DataLoss,
              fmt::format("{} is missing, and without it no key of {} can be checked: put it back "
                          "from where it was moved to, or remove {} too and begin without keys",
                          secret.native(), path.native(), path.native()));
}

Status check_key_name(std::string_view name) {
  const auto visible = [](char c) { return c >= ' ' && c != 127; };
  if (name.size() <= kMaxKeyName && std::ranges::all_of(name, visible)) return {};
  return refuse(reason::kInvalidSetting,
                fmt::format("a key's name is at most {} visible characters of ASCII", kMaxKeyName));
}

}  // namespace

void KeyTable::add(const std::string& id, Entry entry) {
  closed_ = true;
  keys_.insert_or_assign(id, std::move(entry));
}

void KeyTable::remove(std::string_view id) {
  if (const auto found = keys_.find(id); found != keys_.end()) keys_.erase(found);
}

// An id that nobody has costs the same digest as one that somebody has.
Result<PrincipalRef> KeyTable::check(std::string_view text, WallTime now) const {
  if (const auto id = api_key_id(text)) {
    static const Entry kNobody;
    const auto found = keys_.find(*id);
    const Entry& entry = found == keys_.end() ? kNobody : found->second;
    const bool genuine = same_digest(secret_.digest(text), entry.digest);
    if (genuine && entry.principal && (!entry.expires || now < *entry.expires))
      return entry.principal;
  }
  return refuse(reason::kUnauthenticated,
                "the key is not one of this node, has expired, or was revoked");
}

Result<std::unique_ptr<KeyStore>> KeyStore::open(const Path& path, const Path& secret,
                                                 const Clock& clock, Rng& rng) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the table of keys", kKeySchema));
  std::optional<NodeSecret> known = TRY(NodeSecret::read(secret));
  if (!known) {
    TRY(check_no_keys(database, path, secret));
    known = TRY(NodeSecret::create(secret, rng));
  }
  std::unique_ptr<KeyStore> store(new KeyStore(std::move(database), *known, clock, rng));
  TRY(store->load());
  return store;
}

Status KeyStore::load() {
  Statement query = TRY(database_.prepare(
      "read keys", "SELECT id, digest, name, project, scopes, expires, revoked FROM key"));
  KeyTable table(secret_);
  while (TRY(query.step())) {
    table.add_dead();
    if (!query.is_null(6)) continue;
    const std::string id = query.text(0);
    auto entry = read_entry(query, id);
    if (entry) {
      table.add(id, *std::move(entry));
    } else {
      LOG(error, "a key in identity.db cannot be read, so that nobody can use it; make another",
          {"id", id}, {"error", entry.error().message});
    }
  }
  publish(std::move(table));
  return {};
}

void KeyStore::publish(KeyTable table) {
  auto next = std::make_shared<const KeyTable>(std::move(table));
  const std::scoped_lock lock(table_mutex_);
  table_ = std::move(next);
}

Status KeyStore::check_room(std::string_view project) {
  Statement count =
      TRY(database_.prepare("count keys",
                            "SELECT count(*) FROM key WHERE project = ?1 AND revoked IS NULL AND "
                            "(expires IS NULL OR expires > ?2)"));
  count.bind(project, as_number(clock_.wall_now()));
  if (!TRY(count.step()) || count.integer(0) < kMostKeys) return {};
  return refuse(reason::kConflict,
                fmt::format("the project {} has {} keys already, which is the most; revoke those "
                            "that nobody uses (mayfly key list)",
                            project, kMostKeys));
}

Result<KeyStore::Made> KeyStore::create(const Wish& wish, std::string_view who) {
  TRY(check_key_name(wish.name));
  const WallTime now = clock_.wall_now();
  if (wish.expires && *wish.expires <= now)
    return refuse(reason::kInvalidSetting, "the key would have expired already");
  const ApiKey key = make_api_key(rng_);
  const std::scoped_lock lock(mutex_);
  TRY(check_room(wish.project));
  Statement insert = TRY(
      database_.prepare("keep a key",
                        "INSERT INTO key(id, digest, name, project, scopes, created, created_by, "
                        "expires) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"));
  const Digest digest = secret_.digest(key.text);
  insert.bind(std::string_view(key.id), std::span<const std::byte>(digest.bytes),
              std::string_view(wish.name), std::string_view(wish.project),
              std::string_view(wish.scopes.str()), as_number(now), who,
              optional_number(wish.expires));
  KeyTable next = *table();
  next.add(key.id, {.digest = digest,
                    .principal = key_principal(key.id, wish.name, wish.project, wish.scopes),
                    .expires = wish.expires});
  TRY(insert.run());
  publish(std::move(next));
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

Result<std::string> KeyStore::revoke(std::string_view project, std::string_view id) {
  const std::scoped_lock lock(mutex_);
  Statement update =
      TRY(database_.prepare("revoke a key",
                            "UPDATE key SET revoked = ?3 WHERE id = ?2 AND revoked IS NULL AND "
                            "(?1 = '' OR project = ?1) RETURNING project"));
  update.bind(project, id, as_number(clock_.wall_now()));
  const bool found = TRY(update.step());
  std::string owner = found ? update.text(0) : std::string();
  TRY(update.run());
  if (!found) {
    return refuse(reason::kNotFound, fmt::format("there is no valid key '{}'", id.substr(0, 40)));
  }
  KeyTable next = *table();
  next.remove(id);
  publish(std::move(next));
  return owner;
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
  const std::scoped_lock lock(table_mutex_);
  return table_;
}

}  // namespace mayfly
