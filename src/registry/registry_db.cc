#include "registry/registry_db.h"

#include <algorithm>

namespace mayfly {
namespace {

// Times are nanoseconds since 1970. Versions, manifests and changes are never edited: the triggers
// hold for every tool that opens the file.
constexpr const char* kSchema = R"sql(
CREATE TABLE IF NOT EXISTS function(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  created INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  current INTEGER NOT NULL,
  settings TEXT NOT NULL,
  deleted INTEGER                      -- when; the rows go with the next collection
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS live_function ON function(name) WHERE deleted IS NULL;

CREATE TABLE IF NOT EXISTS routing(      -- of functions that split traffic or have aliases
  function INTEGER PRIMARY KEY REFERENCES function(id) ON DELETE CASCADE,
  json TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS rollout(      -- under way
  function INTEGER PRIMARY KEY REFERENCES function(id) ON DELETE CASCADE,
  json TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS last_number(
  name TEXT PRIMARY KEY,
  number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS manifest(
  digest BLOB PRIMARY KEY,
  artifact BLOB NOT NULL,
  json TEXT NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS manifest_blob(
  manifest BLOB NOT NULL REFERENCES manifest(digest) ON DELETE CASCADE,
  blob BLOB NOT NULL,
  PRIMARY KEY(manifest, blob)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS version(
  function INTEGER NOT NULL REFERENCES function(id) ON DELETE CASCADE,
  number INTEGER NOT NULL,
  manifest BLOB NOT NULL REFERENCES manifest(digest),
  created INTEGER NOT NULL,
  deployed_by TEXT NOT NULL,
  report TEXT NOT NULL,
  PRIMARY KEY(function, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS version_by_manifest ON version(manifest);

CREATE TABLE IF NOT EXISTS provenance(   -- of versions that were signed, or came from elsewhere
  function INTEGER NOT NULL,
  number INTEGER NOT NULL,
  signature TEXT NOT NULL,
  key TEXT NOT NULL,
  origin TEXT NOT NULL,
  PRIMARY KEY(function, number),
  FOREIGN KEY(function, number) REFERENCES version(function, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS training(     -- of versions that were trained
  function INTEGER NOT NULL,
  number INTEGER NOT NULL,
  record BLOB NOT NULL,
  size INTEGER NOT NULL,
  job TEXT NOT NULL,
  PRIMARY KEY(function, number),
  FOREIGN KEY(function, number) REFERENCES version(function, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS training_by_job ON training(function, job) WHERE job <> '';

CREATE TABLE IF NOT EXISTS training_data(
  function INTEGER NOT NULL,
  number INTEGER NOT NULL,
  dataset TEXT NOT NULL,
  snapshot INTEGER NOT NULL,
  PRIMARY KEY(function, number, dataset, snapshot),
  FOREIGN KEY(function, number) REFERENCES training(function, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS training_by_data ON training_data(dataset, snapshot);

CREATE TABLE IF NOT EXISTS change(
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  time INTEGER NOT NULL,
  who TEXT NOT NULL,
  function TEXT NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS change_by_function ON change(function, sequence);

CREATE TRIGGER IF NOT EXISTS version_is_immutable BEFORE UPDATE ON version
  BEGIN SELECT RAISE(ABORT, 'a version is never edited'); END;
CREATE TRIGGER IF NOT EXISTS provenance_is_immutable BEFORE UPDATE ON provenance
  BEGIN SELECT RAISE(ABORT, 'a signature is never edited'); END;
CREATE TRIGGER IF NOT EXISTS training_is_immutable BEFORE UPDATE ON training
  BEGIN SELECT RAISE(ABORT, 'how a version was trained is never edited'); END;
CREATE TRIGGER IF NOT EXISTS training_data_is_immutable BEFORE UPDATE ON training_data
  BEGIN SELECT RAISE(ABORT, 'what a version was trained on is never edited'); END;
CREATE TRIGGER IF NOT EXISTS manifest_is_immutable BEFORE UPDATE ON manifest
  BEGIN SELECT RAISE(ABORT, 'a manifest is never edited'); END;
CREATE TRIGGER IF NOT EXISTS change_is_never_edited BEFORE UPDATE ON change
  BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
CREATE TRIGGER IF NOT EXISTS change_is_never_deleted BEFORE DELETE ON change
  BEGIN SELECT RAISE(ABORT, 'history is append-only'); END;
)sql";

std::int64_t as_integer(WallTime time) { return time.time_since_epoch().count(); }
WallTime as_time(std::int64_t nanoseconds) { return WallTime(Duration(nanoseconds)); }

std::span<const std::byte> as_blob(const Digest& digest) { return digest.bytes; }

Result<Digest> digest_in(const Statement& row, int column) {
  const auto blob = row.blob(column);
  Digest digest;
  if (blob.size() != digest.bytes.size()) {
    return fail(Code::DataLoss, "the registry holds a malformed digest");
  }
  std::ranges::copy(blob, digest.bytes.begin());
  return digest;
}

Result<VersionRow> version_in(const Statement& row) {
  return VersionRow{.function = row.integer(0),
                    .number = static_cast<std::uint32_t>(row.integer(1)),
                    .manifest = TRY(digest_in(row, 2)),
                    .artifact = TRY(digest_in(row, 3)),
                    .created = as_time(row.integer(4)),
                    .deployed_by = row.text(5),
                    .report = row.text(6)};
}

}  // namespace

Result<RegistryDb> RegistryDb::open(const Path& path) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the registry's tables", kSchema));
  return RegistryDb(std::move(database));
}

Result<std::vector<FunctionRow>> RegistryDb::live_functions() {
  Statement query = TRY(database_.prepare(
      "list functions",
      "SELECT id, name, created, current, settings, coalesce(json, '') FROM function "
      "LEFT JOIN routing ON function = id WHERE deleted IS NULL"));
  std::vector<FunctionRow> rows;
  while (TRY(query.step())) {
    rows.push_back({.id = query.integer(0),
                    .name = query.text(1),
                    .created = as_time(query.integer(2)),
                    .current = static_cast<std::uint32_t>(query.integer(3)),
                    .settings = query.text(4),
                    .routing = query.text(5)});
  }
  return rows;
}

Status RegistryDb::for_each_version(const std::function<Status(const VersionRow&)>& visit) {
  Statement query = TRY(database_.prepare(
      "list versions",
      "SELECT v.function, v.number, v.manifest, m.artifact, v.created, '', '' FROM version v "
      "JOIN manifest m ON m.digest = v.manifest JOIN function f ON f.id = v.function "
      "WHERE f.deleted IS NULL ORDER BY v.function, v.number"));
  while (TRY(query.step())) {
    const VersionRow row = TRY(version_in(query));
    TRY(visit(row));
  }
  return {};
}

Result<std::vector<VersionRow>> RegistryDb::versions_of(std::int64_t function) {
  Statement query = TRY(database_.prepare(
      "list the versions of a function",
      "SELECT v.function, v.number, v.manifest, m.artifact, v.created, v.deployed_by, v.report, "
      "coalesce(p.key, ''), coalesce(p.origin, '{}') "
      "FROM version v JOIN manifest m ON m.digest = v.manifest LEFT JOIN provenance p "
      "ON p.function = v.function AND p.number = v.number WHERE v.function = ?1 "
      "ORDER BY v.number"));
  query.bind(function);
  std::vector<VersionRow> rows;
  while (TRY(query.step())) {
    rows.push_back(TRY(version_in(query)));
    rows.back().provenance = {.signature = {}, .key = query.text(7), .origin = query.text(8)};
  }
  return rows;
}

Result<Provenance> RegistryDb::provenance_of(std::int64_t function, std::uint32_t number) {
  Statement query = TRY(database_.prepare(
      "read a signature",
      "SELECT signature, key, origin FROM provenance WHERE function = ?1 AND number = ?2"));
  query.bind(function, number);
  if (!TRY(query.step())) return Provenance();
  return Provenance{.signature = query.text(0), .key = query.text(1), .origin = query.text(2)};
}

Result<std::optional<VersionTraining>> RegistryDb::training_of(std::int64_t function,
                                                               std::uint32_t number) {
  Statement query = TRY(database_.prepare(
      "read how a version was trained",
      "SELECT record, size, job FROM training WHERE function = ?1 AND number = ?2"));
  query.bind(function, number);
  if (!TRY(query.step())) return std::nullopt;
  VersionTraining training{.record = TRY(digest_in(query, 0)),
                           .size = static_cast<std::uint64_t>(query.integer(1)),
                           .job = query.text(2)};
  Statement data = TRY(database_.prepare("read what a version was trained on",
                                         "SELECT dataset, snapshot FROM training_data "
                                         "WHERE function = ?1 AND number = ?2"));
  data.bind(function, number);
  while (TRY(data.step())) {
    training.data.push_back(
        {.dataset = data.text(0), .snapshot = static_cast<std::uint32_t>(data.integer(1))});
  }
  return training;
}

Result<std::optional<std::uint32_t>> RegistryDb::number_of_job(std::int64_t function,
                                                               std::string_view job) {
  Statement query =
      TRY(database_.prepare("look up the version of a training",
                            "SELECT number FROM training WHERE function = ?1 AND job = ?2"));
  query.bind(function, job);
  const bool found = TRY(query.step());
  if (!found) return std::nullopt;
  return static_cast<std::uint32_t>(query.integer(0));
}

Result<std::vector<TrainedRow>> RegistryDb::read_trained(Statement query) {
  std::vector<TrainedRow> rows;
  while (TRY(query.step())) {
    rows.push_back({.function = query.text(0),
                    .number = static_cast<std::uint32_t>(query.integer(1)),
                    .record = TRY(digest_in(query, 2))});
  }
  return rows;
}

Result<std::vector<TrainedRow>> RegistryDb::trained() {
  return read_trained(
      TRY(database_.prepare("list versions that were trained",
                            "SELECT f.name, t.number, t.record FROM training t "
                            "JOIN function f ON f.id = t.function WHERE f.deleted IS NULL "
                            "ORDER BY f.name, t.number")));
}

Result<std::vector<TrainedRow>> RegistryDb::trained_on(std::string_view dataset,
                                                       std::uint32_t snapshot) {
  Statement query = TRY(database_.prepare(
      "list versions that learned from a snapshot",
      "SELECT f.name, t.number, t.record FROM training_data d "
      "JOIN training t ON t.function = d.function AND t.number = d.number "
      "JOIN function f ON f.id = t.function "
      "WHERE d.dataset = ?1 AND d.snapshot = ?2 AND f.deleted IS NULL ORDER BY f.name, t.number"));
  query.bind(dataset, snapshot);
  return read_trained(std::move(query));
}

Result<std::uint64_t> RegistryDb::last_sequence() {
  Statement query = TRY(
      database_.prepare("read the last change", "SELECT coalesce(max(sequence), 0) FROM change"));
  const bool found = TRY(query.step());
  return found ? static_cast<std::uint64_t>(query.integer(0)) : 0;
}

Result<std::vector<Change>> RegistryDb::read_changes(Statement query) {
  std::vector<Change> changes;
  while (TRY(query.step())) {
    changes.push_back({.sequence = static_cast<std::uint64_t>(query.integer(0)),
                       .time = as_time(query.integer(1)),
                       .who = query.text(2),
                       .function = query.text(3),
                       .kind = query.text(4),
                       .detail = query.text(5)});
  }
  return changes;
}

Result<std::vector<Change>> RegistryDb::changes_of(std::string_view function, std::uint32_t limit,
                                                   std::string_view kind) {
  Statement query = TRY(database_.prepare(
      "read a function's history",
      "SELECT sequence, time, who, function, kind, detail FROM change WHERE function = ?1 "
      "AND (?3 = '' OR kind = ?3) ORDER BY sequence DESC LIMIT ?2"));
  query.bind(function, limit, kind);
  return read_changes(std::move(query));
}

Result<std::vector<Change>> RegistryDb::changes_after(std::uint64_t sequence, std::uint32_t limit) {
  Statement query = TRY(database_.prepare(
      "read the log of changes",
      "SELECT sequence, time, who, function, kind, detail FROM change WHERE sequence > ?1 "
      "ORDER BY sequence LIMIT ?2"));
  query.bind(static_cast<std::int64_t>(sequence), limit);
  return read_changes(std::move(query));
}

Result<std::optional<std::string>> RegistryDb::manifest_json(const Digest& digest) {
  Statement query =
      TRY(database_.prepare("read a manifest", "SELECT json FROM manifest WHERE digest = ?1"));
  query.bind(as_blob(digest));
  const bool found = TRY(query.step());
  if (!found) return std::nullopt;
  return query.text(0);
}

Status RegistryDb::for_each_blob(const std::function<Status(const Digest&, const Digest&)>& visit) {
  Statement query =
      TRY(database_.prepare("list blobs in use", "SELECT manifest, blob FROM manifest_blob"));
  while (TRY(query.step())) {
    const Digest manifest = TRY(digest_in(query, 0));
    const Digest blob = TRY(digest_in(query, 1));
    TRY(visit(manifest, blob));
  }
  return {};
}

Result<std::uint32_t> RegistryDb::take_number(std::string_view name) {
  Statement query = TRY(database_.prepare(
      "number a version",
      "INSERT INTO last_number VALUES(?1, 1) ON CONFLICT(name) DO UPDATE SET number = number + 1 "
      "RETURNING number"));
  query.bind(name);
  std::uint32_t number = 0;
  // To its end, so that it has happened.
  while (TRY(query.step())) number = static_cast<std::uint32_t>(query.integer(0));
  return number;
}

Result<std::int64_t> RegistryDb::insert_function(const FunctionRow& row,
                                                 std::string_view created_by) {
  Statement insert =
      TRY(database_.prepare("create a function",
                            "INSERT INTO function(name, created, created_by, current, settings) "
                            "VALUES(?1, ?2, ?3, ?4, ?5)"));
  TRY(insert
          .bind(std::string_view(row.name), as_integer(row.created), created_by, row.current,
                std::string_view(row.settings))
          .run());
  return database_.last_insert_id();
}

Status RegistryDb::insert_manifest(const Digest& digest, std::string_view json,
                                   const Digest& artifact, const std::vector<Digest>& blobs) {
  Statement manifest = TRY(database_.prepare(
      "store a manifest",
      "INSERT INTO manifest(digest, json, artifact) VALUES(?1, ?2, ?3) ON CONFLICT DO NOTHING"));
  TRY(manifest.bind(as_blob(digest), json, as_blob(artifact)).run());
  Statement blob =
      TRY(database_.prepare("store a manifest's files",
                            "INSERT INTO manifest_blob VALUES(?1, ?2) ON CONFLICT DO NOTHING"));
  for (const Digest& named : blobs) TRY(blob.bind(as_blob(digest), as_blob(named)).run());
  return {};
}

Status RegistryDb::insert_version(const VersionRow& row) {
  Statement insert = TRY(
      database_.prepare("create a version", "INSERT INTO version VALUES(?1, ?2, ?3, ?4, ?5, ?6)"));
  TRY(insert
          .bind(row.function, row.number, as_blob(row.manifest), as_integer(row.created),
                std::string_view(row.deployed_by), std::string_view(row.report))
          .run());
  const Provenance& from = row.provenance;
  if (from.signature.empty() && from.origin == "{}") return {};
  Statement vouch = TRY(
      database_.prepare("keep a signature", "INSERT INTO provenance VALUES(?1, ?2, ?3, ?4, ?5)"));
  return vouch
      .bind(row.function, row.number, std::string_view(from.signature), std::string_view(from.key),
            std::string_view(from.origin))
      .run();
}

Status RegistryDb::insert_training(std::int64_t function, std::uint32_t number,
                                   const VersionTraining& training) {
  Statement insert = TRY(database_.prepare("keep how a version was trained",
                                           "INSERT INTO training VALUES(?1, ?2, ?3, ?4, ?5)"));
  TRY(insert
          .bind(function, number, as_blob(training.record),
                static_cast<std::int64_t>(training.size), std::string_view(training.job))
          .run());
  Statement data = TRY(
      database_.prepare("keep what a version was trained on",
                        "INSERT INTO training_data VALUES(?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING"));
  for (const VersionTraining::Data& from : training.data)
    TRY(data.bind(function, number, std::string_view(from.dataset), from.snapshot).run());
  return {};
}

Status RegistryDb::set_current(std::int64_t function, std::uint32_t number) {
  Statement update = TRY(database_.prepare("point a function at a version",
                                           "UPDATE function SET current = ?2 WHERE id = ?1"));
  return update.bind(function, number).run();
}

Status RegistryDb::set_settings(std::int64_t function, std::string_view json) {
  Statement update = TRY(database_.prepare("store a function's settings",
                                           "UPDATE function SET settings = ?2 WHERE id = ?1"));
  return update.bind(function, json).run();
}

Status RegistryDb::set_routing(std::int64_t function, std::string_view json) {
  Statement upsert = TRY(database_.prepare(
      "store a function's traffic and aliases",
      "INSERT INTO routing VALUES(?1, ?2) ON CONFLICT(function) DO UPDATE SET json = ?2"));
  return upsert.bind(function, json).run();
}

Result<std::vector<RolloutRow>> RegistryDb::rollouts() {
  Statement query = TRY(database_.prepare(
      "list rollouts",
      "SELECT id, name, json FROM rollout JOIN function ON id = function WHERE deleted IS NULL"));
  std::vector<RolloutRow> rows;
  while (TRY(query.step())) {
    rows.push_back({.function = query.integer(0), .name = query.text(1), .json = query.text(2)});
  }
  return rows;
}

Status RegistryDb::set_rollout(std::int64_t function, std::string_view json) {
  Statement upsert = TRY(database_.prepare(
      "keep a rollout",
      "INSERT INTO rollout VALUES(?1, ?2) ON CONFLICT(function) DO UPDATE SET json = ?2"));
  return upsert.bind(function, json).run();
}

Status RegistryDb::delete_rollout(std::int64_t function) {
  Statement remove =
      TRY(database_.prepare("forget a rollout", "DELETE FROM rollout WHERE function = ?1"));
  return remove.bind(function).run();
}

Status RegistryDb::mark_deleted(std::int64_t function, WallTime when) {
  Statement update =
      TRY(database_.prepare("delete a function", "UPDATE function SET deleted = ?2 WHERE id = ?1"));
  return update.bind(function, as_integer(when)).run();
}

Result<std::uint64_t> RegistryDb::append_change(const Change& change) {
  Statement insert = TRY(database_.prepare(
      "append to the history",
      "INSERT INTO change(time, who, function, kind, detail) VALUES(?1, ?2, ?3, ?4, ?5)"));
  TRY(insert
          .bind(as_integer(change.time), std::string_view(change.who),
                std::string_view(change.function), std::string_view(change.kind),
                std::string_view(change.detail))
          .run());
  return static_cast<std::uint64_t>(database_.last_insert_id());
}

Status RegistryDb::delete_version(std::int64_t function, std::uint32_t number) {
  Statement remove = TRY(database_.prepare(
      "retire a version", "DELETE FROM version WHERE function = ?1 AND number = ?2"));
  return remove.bind(function, number).run();
}

Status RegistryDb::purge() {
  TRY(database_.execute("purge deleted functions",
                        "DELETE FROM function WHERE deleted IS NOT NULL"));
  return database_.execute(
      "purge manifests",
      "DELETE FROM manifest WHERE NOT EXISTS (SELECT 1 FROM version WHERE manifest = digest)");
}

Result<std::vector<Digest>> blobs_named_in(Database& registry) {
  Statement query = TRY(registry.prepare(
      "list blobs in use", "SELECT blob FROM manifest_blob UNION SELECT record FROM training"));
  std::vector<Digest> blobs;
  while (TRY(query.step())) blobs.push_back(TRY(digest_in(query, 0)));
  return blobs;
}

}  // namespace mayfly
