#include "identity/signing_key_store.h"

#include <fmt/format.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "core/printable.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/signing_reason.h"

namespace mayfly {
namespace {

constexpr const char* kSigningSchema = R"sql(
CREATE TABLE IF NOT EXISTS signing_key(
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  project TEXT NOT NULL,
  name TEXT NOT NULL,
  id TEXT NOT NULL,          -- SHA-256 of the public half
  pem TEXT NOT NULL,         -- the public half; the private one is among the secrets
  own INTEGER NOT NULL,
  created INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  revoked INTEGER,
  revoked_by TEXT NOT NULL DEFAULT '',
  UNIQUE(project, name),
  UNIQUE(project, id)
) STRICT;
CREATE TRIGGER IF NOT EXISTS signing_key_is_kept BEFORE DELETE ON signing_key
  BEGIN SELECT RAISE(ABORT, 'a signing key is revoked, never deleted'); END;
CREATE TRIGGER IF NOT EXISTS signing_key_stays_revoked BEFORE UPDATE ON signing_key
  WHEN OLD.revoked IS NOT NULL
  BEGIN SELECT RAISE(ABORT, 'a signing key stays revoked'); END;
)sql";

constexpr std::size_t kMaxSigningName = 64;
constexpr std::size_t kShortSigningId = 16;

Status check_signing_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  if (!name.empty() && name.size() <= kMaxSigningName && std::ranges::all_of(name, fits)) return {};
  return refuse(reason::kInvalidSetting,
                fmt::format("the name of a signing key has 1 to {} letters, digits, '-', '_', '.'",
                            kMaxSigningName));
}

std::int64_t nanoseconds(WallTime time) { return time.time_since_epoch().count(); }

const SigningKeyRow* find_key(const std::vector<SigningKeyRow>& rows, std::string_view key) {
  const auto found = std::ranges::find_if(rows, [&](const SigningKeyRow& row) {
    return row.name == key || row.id == key ||
           (key.size() == kShortSigningId && row.id.starts_with(key));
  });
  return found == rows.end() ? nullptr : &*found;
}

std::unexpected<Error> unknown_signer(std::string_view id) {
  return refuse(reason::kUntrustedSigner,
                fmt::format("it was signed with the key {}, which the project does not trust; if "
                            "you do: mayfly signing-key trust NAME KEY.pem",
                            printable(id.substr(0, kShortSigningId), kShortSigningId)));
}

}  // namespace

Result<std::unique_ptr<SigningKeyStore>> SigningKeyStore::open(const Path& path,
                                                               SecretStore& secrets,
                                                               const Clock& clock, Rng& rng) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the table of signing keys", kSigningSchema));
  return std::unique_ptr<SigningKeyStore>(
      new SigningKeyStore(std::move(database), secrets, clock, rng));
}

Result<std::vector<SigningKeyRow>> SigningKeyStore::rows(std::string_view project) {
  Statement query = TRY(database_.prepare(
      "list signing keys",
      "SELECT name, id, pem, own, created, created_by, revoked IS NOT NULL, "
      "coalesce(revoked, 0), revoked_by FROM signing_key WHERE project = ?1 ORDER BY sequence"));
  query.bind(project);
  std::vector<SigningKeyRow> rows;
  while (TRY(query.step())) {
    SigningKeyRow row{.name = query.text(0),
                      .id = query.text(1),
                      .pem = query.text(2),
                      .own = query.integer(3) != 0,
                      .created = WallTime(Duration(query.integer(4))),
                      .created_by = query.text(5)};
    if (query.integer(6) != 0) row.revoked = WallTime(Duration(query.integer(7)));
    row.revoked_by = query.text(8);
    rows.push_back(std::move(row));
  }
  return rows;
}

Status SigningKeyStore::check_free(std::string_view project, std::string_view name,
                                   std::string_view id) {
  const auto known = TRY(rows(project));
  if (known.size() >= kMostKeys) {
    return refuse(reason::kConflict,
                  fmt::format("the project has {} signing keys already", kMostKeys));
  }
  for (const SigningKeyRow& row : known) {
    if (row.id == id) {
      return refuse(reason::kConflict,
                    fmt::format("this key is known already as {}{}", row.name,
                                row.revoked ? ", and it was revoked, which stays" : ""));
    }
    if (row.name == name)
      return refuse(reason::kConflict, fmt::format("there is a signing key {} already", name));
  }
  return {};
}

Status SigningKeyStore::insert(std::string_view project, const SigningKeyRow& row) {
  Statement statement = TRY(
      database_.prepare("keep a signing key",
                        "INSERT INTO signing_key(project, name, id, pem, own, created, created_by) "
                        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"));
  statement.bind(project, std::string_view(row.name), std::string_view(row.id),
                 std::string_view(row.pem), std::int64_t{row.own ? 1 : 0}, nanoseconds(row.created),
                 std::string_view(row.created_by));
  return statement.run();
}

// The private half first: a key that is listed can sign.
Result<SigningKeyRow> SigningKeyStore::make(std::string_view project, std::string_view name,
                                            std::string_view who) {
  auto bytes = draw_private_key(rng_);
  const PublicKey half = PrivateKey::create(bytes)->public_key();
  SigningKeyRow row{
      .name = name.empty() ? fmt::format("auto-{}", half.id().substr(0, 8)) : std::string(name),
      .id = half.id(),
      .pem = half.pem(),
      .own = true,
      .created = clock_.wall_now(),
      .created_by = std::string(who)};
  TRY(check_free(project, row.name, row.id));
  const Status kept = secrets_.keep_signing_key(
      project, row.id, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, who);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  if (!kept) return std::unexpected(kept.error());
  TRY(insert(project, row));
  return row;
}

Result<SigningKeyRow> SigningKeyStore::create(std::string_view project, std::string_view name,
                                              std::string_view who) {
  TRY(check_project(project));
  if (!name.empty()) TRY(check_signing_name(name));
  const std::scoped_lock lock(mutex_);
  return make(project, name, who);
}

Result<SigningKeyRow> SigningKeyStore::trust(const Trusting& wish) {
  TRY(check_project(wish.project));
  TRY(check_signing_name(wish.name));
  const PublicKey key = TRY(PublicKey::parse(wish.pem));
  const std::scoped_lock lock(mutex_);
  TRY(check_free(wish.project, wish.name, key.id()));
  SigningKeyRow row{.name = std::string(wish.name),
                    .id = key.id(),
                    .pem = key.pem(),
                    .own = false,
                    .created = clock_.wall_now(),
                    .created_by = std::string(wish.who)};
  TRY(insert(wish.project, row));
  return row;
}

Result<std::vector<SigningKeyRow>> SigningKeyStore::list(std::string_view project) {
  const std::scoped_lock lock(mutex_);
  return rows(project);
}

Result<SigningKeyRow> SigningKeyStore::revoke(std::string_view project, std::string_view key,
                                              std::string_view who) {
  const std::scoped_lock lock(mutex_);
  const auto known = TRY(rows(project));
  const SigningKeyRow* found = find_key(known, key);
  if (found == nullptr) {
    return refuse(reason::kNotFound,
                  fmt::format("there is no signing key '{}': mayfly signing-key list shows those "
                              "there are",
                              printable(key, kMaxSigningName)));
  }
  if (found->revoked)
    return refuse(reason::kConflict, fmt::format("the key {} is revoked already", found->name));
  SigningKeyRow row = *found;
  row.revoked = clock_.wall_now();
  row.revoked_by = who;
  Statement statement = TRY(database_.prepare(
      "revoke a signing key",
      "UPDATE signing_key SET revoked = ?3, revoked_by = ?4 WHERE project = ?1 AND id = ?2"));
  statement.bind(project, std::string_view(row.id), nanoseconds(*row.revoked), who);
  TRY(statement.run());
  return row;
}

Result<SigningKeyStore::Signed> SigningKeyStore::sign(std::string_view project,
                                                      const SignedFolder& folder) {
  const std::scoped_lock lock(mutex_);
  const auto known = TRY(rows(project));
  std::string id;
  for (const SigningKeyRow& row : known)
    if (row.own && !row.revoked) id = row.id;
  if (id.empty()) id = TRY(make(project, "", "mayfly")).id;
  const SecretBytes bytes = TRY(secrets_.signing_key(project, id));
  const auto octets = std::as_bytes(std::span(bytes.view()));
  std::optional<PrivateKey> key;
  if (octets.size() == PrivateKey::kBytes)
    key = PrivateKey::create(octets.first<PrivateKey::kBytes>());
  if (!key || key->public_key().id() != id)
    return fail(Code::DataLoss,
                fmt::format("the signing key {} is damaged", id.substr(0, kShortSigningId)));
  return Signed{.bundle = sign_folder(folder, *key), .key = id};
}

Result<SigningKeyStore::Verified> SigningKeyStore::verify(std::string_view project,
                                                          std::string_view bundle) {
  const ModelSignature signature = TRY(ModelSignature::parse(bundle));
  const auto known = TRY(list(project));
  for (const SigningKeyRow& row : known) {
    if (!signature.key_hint().empty() && signature.key_hint() != row.id) continue;
    const PublicKey key = TRY(PublicKey::parse(row.pem));
    auto folder = signature.open(key);
    // Without a hint any key may be the one.
    if (!folder && signature.key_hint().empty()) continue;
    if (!folder) return std::unexpected(std::move(folder).error());
    if (row.revoked) {
      return refuse(reason::kUntrustedSigner,
                    fmt::format("it was signed with the key {} ({}), which was revoked by {}",
                                row.name, row.id.substr(0, kShortSigningId), row.revoked_by));
    }
    return Verified{.folder = *std::move(folder), .key = row};
  }
  return unknown_signer(signature.key_hint().empty() ? "(it does not say which)"
                                                     : signature.key_hint());
}

}  // namespace mayfly
