// Seven tables:
//
//   datasets         one row each; `latest` counts its snapshots, from 1
//   snapshots        one row each, also of those that are erased
//   parts            what ingests made; a number is never given twice
//   snapshot_parts   the parts of a snapshot, in their order; an appended one begins with its
//   parent's part_files       columns snapshot_files   schema.json, statistics.json, sketches.bin
//   test_looks       who looked at the test split of a snapshot, each once; rows are never removed
#include "data/dataset_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "core/caller_reason.h"
#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr const char* kDatasetSchema = R"sql(
CREATE TABLE IF NOT EXISTS datasets(
  id INTEGER PRIMARY KEY,
  project TEXT NOT NULL,
  name TEXT NOT NULL,
  k0 INTEGER NOT NULL,
  k1 INTEGER NOT NULL,
  split TEXT NOT NULL,
  created INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  latest INTEGER NOT NULL DEFAULT 0,
  UNIQUE(project, name)
) STRICT;
CREATE TABLE IF NOT EXISTS snapshots(
  dataset INTEGER NOT NULL REFERENCES datasets(id),
  number INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  parent INTEGER NOT NULL,
  job TEXT NOT NULL UNIQUE,
  recipe BLOB NOT NULL,
  digest BLOB NOT NULL,
  created INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  train INTEGER NOT NULL,
  valid INTEGER NOT NULL,
  test INTEGER NOT NULL,
  bad_rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  report TEXT NOT NULL,
  sources TEXT NOT NULL,
  erased INTEGER NOT NULL DEFAULT 0,
  erased_at INTEGER NOT NULL DEFAULT 0,
  erased_by TEXT NOT NULL DEFAULT '',
  reason TEXT NOT NULL DEFAULT '',
  PRIMARY KEY(dataset, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS parts(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  dataset INTEGER NOT NULL REFERENCES datasets(id)
) STRICT;
CREATE TABLE IF NOT EXISTS snapshot_parts(
  dataset INTEGER NOT NULL,
  number INTEGER NOT NULL,
  place INTEGER NOT NULL,
  part INTEGER NOT NULL REFERENCES parts(id),
  PRIMARY KEY(dataset, number, place),
  FOREIGN KEY(dataset, number) REFERENCES snapshots(dataset, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS snapshot_parts_by_part ON snapshot_parts(part);
CREATE TABLE IF NOT EXISTS part_files(
  owner INTEGER NOT NULL,
  number INTEGER NOT NULL,
  path TEXT NOT NULL,
  digest BLOB NOT NULL,
  size INTEGER NOT NULL,
  PRIMARY KEY(owner, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS part_files_by_digest ON part_files(digest);
CREATE TABLE IF NOT EXISTS snapshot_files(
  owner INTEGER NOT NULL,
  number INTEGER NOT NULL,
  path TEXT NOT NULL,
  digest BLOB NOT NULL,
  size INTEGER NOT NULL,
  PRIMARY KEY(owner, number, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS snapshot_files_by_digest ON snapshot_files(digest);
CREATE TABLE IF NOT EXISTS test_looks(
  dataset INTEGER NOT NULL,
  number INTEGER NOT NULL,
  look INTEGER NOT NULL,
  job TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY(dataset, number, job),
  FOREIGN KEY(dataset, number) REFERENCES snapshots(dataset, number)
) STRICT, WITHOUT ROWID;
)sql";

constexpr std::string_view kDatasetColumns =
    "SELECT id, project, name, k0, k1, split, created, created_by, latest FROM datasets ";

std::int64_t since_epoch(WallTime time) { return time.time_since_epoch().count(); }
WallTime at_epoch(std::int64_t ns) { return WallTime(Duration(ns)); }

std::string split_text(const SplitRule& split) { return to_json_value(split).dump(); }

Result<DatasetRecord> read_dataset(const Statement& row) {
  const Json split = TRY(parse_json(row.text(5), "split"));
  return DatasetRecord{.id = row.integer(0),
                       .project = row.text(1),
                       .name = row.text(2),
                       .key = {.k0 = static_cast<std::uint64_t>(row.integer(3)),
                               .k1 = static_cast<std::uint64_t>(row.integer(4))},
                       .split = TRY(read_split(split)),
                       .created = at_epoch(row.integer(6)),
                       .created_by = row.text(7),
                       .latest = static_cast<std::uint32_t>(row.integer(8))};
}

Digest kept_digest(const Statement& row, int column) {
  Digest digest;
  const auto bytes = row.blob(column);
  if (bytes.size() == digest.bytes.size()) std::ranges::copy(bytes, digest.bytes.begin());
  return digest;
}

// `report`: "report", or "''" where it is not wanted.
std::string select_snapshots(std::string_view report, std::string_view where) {
  return fmt::format(
      "SELECT dataset, number, kind, parent, job, recipe, digest, created, created_by, train, "
      "valid, test, bad_rows, bytes, {}, sources, erased, erased_at, erased_by, reason "
      "FROM snapshots {}",
      report, where);
}

SnapshotRecord read_snapshot(const Statement& row) {
  const auto count = [&](int column) { return static_cast<std::uint64_t>(row.integer(column)); };
  return {.dataset = row.integer(0),
          .number = static_cast<std::uint32_t>(row.integer(1)),
          .kind = static_cast<SnapshotKind>(row.integer(2)),
          .parent = static_cast<std::uint32_t>(row.integer(3)),
          .job = row.text(4),
          .recipe = kept_digest(row, 5),
          .digest = kept_digest(row, 6),
          .created = at_epoch(row.integer(7)),
          .created_by = row.text(8),
          .rows = {.train = count(9), .valid = count(10), .test = count(11)},
          .bad_rows = count(12),
          .bytes = count(13),
          .report = row.text(14),
          .sources = row.text(15),
          .erased = row.integer(16) != 0,
          .erased_at = at_epoch(row.integer(17)),
          .erased_by = row.text(18),
          .reason = row.text(19)};
}

}  // namespace

std::string_view to_string(SnapshotKind kind) {
  if (kind == SnapshotKind::Without) return "without";
  return kind == SnapshotKind::Put ? "put" : "append";
}

Result<std::unique_ptr<DatasetStore>> DatasetStore::open(const Path& path) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the tables of datasets", kDatasetSchema));
  return std::unique_ptr<DatasetStore>(new DatasetStore(std::move(database)));
}

Result<std::optional<DatasetRecord>> DatasetStore::find_dataset(std::string_view project,
                                                                std::string_view name) {
  Statement query = TRY(database_.prepare(
      "find a dataset", fmt::format("{}WHERE project = ?1 AND name = ?2", kDatasetColumns)));
  query.bind(project, name);
  if (!TRY(query.step())) return std::nullopt;
  return TRY(read_dataset(query));
}

SipKey key_of_seed(std::uint64_t seed) {
  const std::string hex = to_string(sha256(fmt::format("split seed {}", seed)));
  const auto half = [&](std::size_t from) {
    return std::stoull(hex.substr(from, 16), nullptr, 16);
  };
  return {.k0 = half(0), .k1 = half(16)};
}

Result<DatasetRecord> DatasetStore::ensure(const Wanted& wanted) {
  const std::scoped_lock lock(mutex_);
  if (auto known = TRY(find_dataset(wanted.project, wanted.name))) {
    if (known->split == wanted.split) return *std::move(known);
    // Nothing is split yet.
    if (known->latest == 0) {
      Statement change = TRY(database_.prepare("change how a dataset splits its rows",
                                               "UPDATE datasets SET split = ?2, k0 = ?3, k1 = ?4 "
                                               "WHERE id = ?1"));
      const std::string split = split_text(wanted.split);
      change.bind(known->id, std::string_view(split), static_cast<std::int64_t>(wanted.key.k0),
                  static_cast<std::int64_t>(wanted.key.k1));
      TRY(change.run());
      known->split = wanted.split;
      known->key = wanted.key;
      return *std::move(known);
    }
    return refuse(reason::kConflict,
                  fmt::format("the rows of '{}' are split otherwise, {}, and no row may move: give "
                              "the new split another dataset",
                              wanted.name, split_text(known->split)));
  }
  Statement insert = TRY(
      database_.prepare("make a dataset",
                        "INSERT INTO datasets(project, name, k0, k1, split, created, created_by) "
                        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"));
  const std::string split = split_text(wanted.split);
  insert.bind(std::string_view(wanted.project), std::string_view(wanted.name),
              static_cast<std::int64_t>(wanted.key.k0), static_cast<std::int64_t>(wanted.key.k1),
              std::string_view(split), since_epoch(wanted.now), std::string_view(wanted.caller));
  TRY(insert.run());
  auto made = TRY(find_dataset(wanted.project, wanted.name));
  if (!made) return fail(Code::Internal, "a dataset that was made is not there");
  return *std::move(made);
}

Result<DatasetRecord> DatasetStore::find(std::string_view project, std::string_view name) {
  const std::scoped_lock lock(mutex_);
  auto found = TRY(find_dataset(project, name));
  if (!found)
    return refuse(reason::kNotFound, fmt::format("there is no dataset '{}'", name.substr(0, 64)));
  return *std::move(found);
}

Result<std::vector<DatasetRecord>> DatasetStore::list(std::string_view project) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare(
      "list datasets", fmt::format("{}WHERE project = ?1 ORDER BY name", kDatasetColumns)));
  query.bind(project);
  std::vector<DatasetRecord> found;
  while (TRY(query.step())) found.push_back(TRY(read_dataset(query)));
  return found;
}

Result<std::vector<SnapshotRecord>> DatasetStore::snapshots(const DatasetRecord& dataset,
                                                            std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare(
      "list snapshots",
      select_snapshots("''", "WHERE dataset = ?1 ORDER BY number DESC LIMIT ?2")));
  query.bind(dataset.id, static_cast<std::int64_t>(limit));
  std::vector<SnapshotRecord> found;
  while (TRY(query.step())) found.push_back(read_snapshot(query));
  return found;
}

Result<std::optional<SnapshotRecord>> DatasetStore::find_snapshot(std::string_view where,
                                                                  std::int64_t dataset,
                                                                  std::int64_t number,
                                                                  std::string_view job) {
  Statement query = TRY(database_.prepare(
      "find a snapshot",
      select_snapshots("report", fmt::format("WHERE ?1 IS NOT NULL AND ?2 IS NOT NULL AND ?3 IS "
                                             "NOT NULL AND {}",
                                             where))));
  query.bind(dataset, number, job);
  if (!TRY(query.step())) return std::nullopt;
  return read_snapshot(query);
}

Result<SnapshotRecord> DatasetStore::snapshot(const DatasetRecord& dataset, std::uint32_t number) {
  const std::scoped_lock lock(mutex_);
  const auto found =
      TRY(find_snapshot(number == 0 ? "dataset = ?1 AND erased = 0 ORDER BY number DESC LIMIT 1"
                                    : "dataset = ?1 AND number = ?2",
                        dataset.id, number, ""));
  if (found) return *found;
  if (number > 0) {
    return refuse(reason::kNotFound, fmt::format("'{}' has no snapshot {}; its newest is {}",
                                                 dataset.name, number, dataset.latest));
  }
  return refuse(reason::kNotFound, fmt::format("'{}' has no snapshot{}", dataset.name,
                                               dataset.latest > 0 ? " that is not erased" : ""));
}

Result<std::optional<SnapshotRecord>> DatasetStore::snapshot_of_job(std::string_view job) {
  const std::scoped_lock lock(mutex_);
  return find_snapshot("job = ?3", 0, 0, job);
}

Result<std::vector<DatasetFile>> DatasetStore::read_files(Statement& query) {
  std::vector<DatasetFile> found;
  while (TRY(query.step())) {
    found.push_back({.path = query.text(0),
                     .digest = kept_digest(query, 1),
                     .size = static_cast<std::uint64_t>(query.integer(2))});
  }
  return found;
}

Result<std::vector<DatasetFile>> DatasetStore::files(const SnapshotRecord& snapshot) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare("list a snapshot's files",
                                          "SELECT path, digest, size FROM snapshot_files "
                                          "WHERE owner = ?1 AND number = ?2 ORDER BY path"));
  query.bind(snapshot.dataset, snapshot.number);
  return read_files(query);
}

Result<std::vector<std::int64_t>> DatasetStore::part_ids(const SnapshotRecord& snapshot) {
  Statement query = TRY(database_.prepare(
      "list a snapshot's parts",
      "SELECT part FROM snapshot_parts WHERE dataset = ?1 AND number = ?2 ORDER BY place"));
  query.bind(snapshot.dataset, snapshot.number);
  std::vector<std::int64_t> found;
  while (TRY(query.step())) found.push_back(query.integer(0));
  return found;
}

Result<std::vector<std::vector<DatasetFile>>> DatasetStore::parts(const SnapshotRecord& snapshot) {
  const std::scoped_lock lock(mutex_);
  std::vector<std::vector<DatasetFile>> found;
  for (const std::int64_t part : TRY(part_ids(snapshot))) {
    Statement query = TRY(database_.prepare(
        "list a part's files",
        "SELECT path, digest, size FROM part_files WHERE owner = ?1 ORDER BY path"));
    query.bind(part);
    found.push_back(TRY(read_files(query)));
  }
  return found;
}

// One that was overtaken would lose what came before it.
Result<std::uint32_t> DatasetStore::number_next(const SnapshotRecord& snapshot) {
  const bool follows = snapshot.kind != SnapshotKind::Put;
  const auto newest = TRY(find_snapshot("dataset = ?1 AND erased = 0 ORDER BY number DESC LIMIT 1",
                                        snapshot.dataset, 0, ""));
  if (follows && (!newest || newest->number != snapshot.parent)) {
    return refuse(reason::kConflict,
                  fmt::format("snapshot {} is not the newest any more", snapshot.parent));
  }
  Statement update = TRY(
      database_.prepare("number a snapshot",
                        "UPDATE datasets SET latest = latest + 1 WHERE id = ?1 RETURNING latest"));
  update.bind(snapshot.dataset);
  if (!TRY(update.step())) return refuse(reason::kNotFound, "the dataset is gone");
  const auto number = static_cast<std::uint32_t>(update.integer(0));
  TRY(update.run());
  return number;
}

Status DatasetStore::insert_files(std::string_view table, std::int64_t owner, std::uint32_t number,
                                  const std::vector<DatasetFile>& files) {
  Statement insert = TRY(database_.prepare(
      "name a file of a dataset", fmt::format("INSERT INTO {} VALUES(?1, ?2, ?3, ?4, ?5)", table)));
  for (const DatasetFile& file : files) {
    insert.bind(owner, number, std::string_view(file.path), std::span(file.digest.bytes),
                static_cast<std::int64_t>(file.size));
    TRY(insert.run());
  }
  return {};
}

Status DatasetStore::insert_part(const Commit& commit, const SnapshotRecord& snapshot) {
  std::vector<std::int64_t> parts;
  if (!commit.whole) {
    SnapshotRecord parent = snapshot;
    parent.number = snapshot.parent;
    parts = TRY(part_ids(parent));
  }
  Statement number =
      TRY(database_.prepare("number a part", "INSERT INTO parts(dataset) VALUES(?1)"));
  number.bind(snapshot.dataset);
  TRY(number.run());
  parts.push_back(database_.last_insert_id());
  TRY(insert_files("part_files", parts.back(), 0, commit.part));
  Statement insert = TRY(database_.prepare("name a snapshot's part",
                                           "INSERT INTO snapshot_parts VALUES(?1, ?2, ?3, ?4)"));
  for (std::size_t place = 0; place < parts.size(); ++place) {
    insert.bind(snapshot.dataset, snapshot.number, static_cast<std::int64_t>(place), parts[place]);
    TRY(insert.run());
  }
  return {};
}

Status DatasetStore::insert_snapshot(const SnapshotRecord& snapshot) {
  Statement insert = TRY(database_.prepare(
      "make a snapshot",
      "INSERT INTO snapshots(dataset, number, kind, parent, job, recipe, digest, created, "
      "created_by, train, valid, test, bad_rows, bytes, report, sources) "
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 0, ?14, ?15)"));
  insert.bind(
      snapshot.dataset, snapshot.number, std::int64_t{static_cast<std::uint8_t>(snapshot.kind)},
      snapshot.parent, std::string_view(snapshot.job), std::span(snapshot.recipe.bytes),
      std::span(snapshot.digest.bytes), since_epoch(snapshot.created),
      std::string_view(snapshot.created_by), static_cast<std::int64_t>(snapshot.rows.train),
      static_cast<std::int64_t>(snapshot.rows.valid), static_cast<std::int64_t>(snapshot.rows.test),
      static_cast<std::int64_t>(snapshot.bad_rows), std::string_view(snapshot.report),
      std::string_view(snapshot.sources));
  return insert.run();
}

// What it is made of is known now: the digest of all of it, and how much it is.
Status DatasetStore::settle(SnapshotRecord& snapshot) {
  Statement query = TRY(database_.prepare(
      "sum up a snapshot",
      "SELECT 0, path, digest, size FROM snapshot_files WHERE owner = ?1 AND number = ?2 AND "
      "path = 'schema.json' UNION ALL SELECT place + 1, path, digest, size FROM snapshot_parts "
      "JOIN part_files ON owner = part WHERE dataset = ?1 AND snapshot_parts.number = ?2 "
      "ORDER BY 1, 2"));
  query.bind(snapshot.dataset, snapshot.number);
  std::string all;
  while (TRY(query.step())) {
    all += fmt::format("{} {} {}\n", query.integer(0), query.text(1),
                       to_string(kept_digest(query, 2)));
    snapshot.bytes += static_cast<std::uint64_t>(query.integer(3));
  }
  query.reset();
  snapshot.digest = sha256(all);
  Statement update = TRY(database_.prepare(
      "settle a snapshot",
      "UPDATE snapshots SET digest = ?3, bytes = ?4 WHERE dataset = ?1 AND number = ?2"));
  update.bind(snapshot.dataset, snapshot.number, std::span(snapshot.digest.bytes),
              static_cast<std::int64_t>(snapshot.bytes));
  return update.run();
}

Result<SnapshotRecord> DatasetStore::commit(Commit commit) {
  const std::scoped_lock lock(mutex_);
  SnapshotRecord snapshot = std::move(commit.snapshot);
  if (auto made = TRY(find_snapshot("job = ?3", 0, 0, snapshot.job))) return *std::move(made);
  Transaction transaction = TRY(Transaction::begin(database_));
  Bytes before{};
  {
    Statement query = TRY(database_.prepare("find a dataset's project",
                                            "SELECT project FROM datasets WHERE id = ?1"));
    query.bind(snapshot.dataset);
    if (!TRY(query.step())) return refuse(reason::kNotFound, "the dataset is gone");
    before = TRY(sum_bytes(query.text(0)));
  }
  snapshot.number = TRY(number_next(snapshot));
  snapshot.bytes = 0;
  TRY(insert_snapshot(snapshot));
  TRY(insert_part(commit, snapshot));
  TRY(insert_files("snapshot_files", snapshot.dataset, snapshot.number, commit.files));
  TRY(settle(snapshot));
  TRY(check_bytes(snapshot.dataset, commit.limit, before));
  TRY(transaction.commit());
  return snapshot;
}

Result<std::vector<Digest>> DatasetStore::drop_bytes(const SnapshotRecord& snapshot) {
  std::vector<Digest> dropped;
  const auto drop = [&](std::string_view purpose, std::string_view sql) -> Status {
    Statement remove = TRY(database_.prepare(purpose, sql));
    remove.bind(snapshot.dataset, snapshot.number);
    while (TRY(remove.step())) dropped.push_back(kept_digest(remove, 0));
    return {};
  };
  TRY(drop("drop a snapshot's columns",
           "DELETE FROM part_files WHERE owner IN (SELECT part FROM snapshot_parts WHERE "
           "dataset = ?1 AND number = ?2) AND owner NOT IN (SELECT part FROM snapshot_parts WHERE "
           "NOT (dataset = ?1 AND number = ?2)) RETURNING digest"));
  TRY(drop("drop a snapshot's statistics",
           "DELETE FROM snapshot_files WHERE owner = ?1 AND number = ?2 AND path <> 'schema.json' "
           "RETURNING digest"));
  Statement unname = TRY(database_.prepare(
      "drop a snapshot's parts", "DELETE FROM snapshot_parts WHERE dataset = ?1 AND number = ?2"));
  unname.bind(snapshot.dataset, snapshot.number);
  TRY(unname.run());
  TRY(database_.execute("drop parts that no snapshot has",
                        "DELETE FROM parts WHERE id NOT IN (SELECT part FROM snapshot_parts)"));
  return dropped;
}

Result<std::uint32_t> DatasetStore::count_look(const SnapshotRecord& snapshot, std::string_view job,
                                               WallTime now,
                                               const std::set<std::uint32_t>& others) {
  const std::scoped_lock lock(mutex_);
  std::uint32_t look = 1;
  for (const TestLook& before : TRY(read_looks(snapshot.dataset)))
    look += others.contains(before.snapshot) ? 0 : 1;
  Statement insert = TRY(database_.prepare("count a look at a test split",
                                           "INSERT OR IGNORE INTO test_looks VALUES(?,?,?,?,?)"));
  insert.bind(snapshot.dataset, snapshot.number, look, job, since_epoch(now));
  TRY(insert.run());
  Statement query = TRY(database_.prepare(
      "find a look at a test split",
      "SELECT look FROM test_looks WHERE dataset = ?1 AND number = ?2 AND job = ?3"));
  query.bind(snapshot.dataset, snapshot.number, job);
  if (!TRY(query.step())) return fail(Code::Internal, "a look that was counted is not there");
  return static_cast<std::uint32_t>(query.integer(0));
}

Result<std::vector<TestLook>> DatasetStore::looks(std::int64_t dataset) {
  const std::scoped_lock lock(mutex_);
  return read_looks(dataset);
}

Result<std::vector<TestLook>> DatasetStore::read_looks(std::int64_t dataset) {
  Statement query = TRY(database_.prepare(
      "list looks at a test split",
      "SELECT number, job, time FROM test_looks WHERE dataset = ?1 ORDER BY time, number, look"));
  query.bind(dataset);
  std::vector<TestLook> found;
  while (TRY(query.step()))
    found.push_back(
        {static_cast<std::uint32_t>(query.integer(0)), query.text(1), at_epoch(query.integer(2))});
  return found;
}

Result<DatasetStore::Erased> DatasetStore::erase(const DatasetRecord& dataset, std::uint32_t number,
                                                 const Erasure& erasure) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  auto found = TRY(find_snapshot("dataset = ?1 AND number = ?2", dataset.id, number, ""));
  if (!found) {
    return refuse(reason::kNotFound, fmt::format("'{}' has no snapshot {}; its newest is {}",
                                                 dataset.name, number, dataset.latest));
  }
  if (found->erased)
    return refuse(reason::kConflict, fmt::format("{}@{} is erased already", dataset.name, number));
  Erased erased{.snapshot = *std::move(found), .dropped = {}, .shared_with = {}};
  {
    Statement shared = TRY(database_.prepare(
        "find who shares parts",
        "SELECT DISTINCT number FROM snapshot_parts WHERE dataset = ?1 AND number <> ?2 AND part "
        "IN (SELECT part FROM snapshot_parts WHERE dataset = ?1 AND number = ?2) ORDER BY number"));
    shared.bind(dataset.id, number);
    while (TRY(shared.step()))
      erased.shared_with.push_back(static_cast<std::uint32_t>(shared.integer(0)));
  }
  erased.dropped = TRY(drop_bytes(erased.snapshot));
  Statement update = TRY(database_.prepare(
      "erase a snapshot",
      "UPDATE snapshots SET erased = 1, erased_at = ?3, erased_by = ?4, reason = ?5, report = '{}' "
      "WHERE dataset = ?1 AND number = ?2"));
  update.bind(dataset.id, number, since_epoch(erasure.now), std::string_view(erasure.by),
              std::string_view(erasure.reason));
  TRY(update.run());
  auto now = TRY(find_snapshot("dataset = ?1 AND number = ?2", dataset.id, number, ""));
  if (now) erased.snapshot = *std::move(now);
  TRY(transaction.commit());
  return erased;
}

Result<Bytes> DatasetStore::sum_bytes(std::string_view project) {
  Statement query = TRY(database_.prepare(
      "sum a project's datasets",
      "WITH mine AS (SELECT id FROM datasets WHERE project = ?1) "
      "SELECT coalesce(sum(size), 0) FROM (SELECT digest, size FROM part_files WHERE owner IN "
      "(SELECT part FROM snapshot_parts WHERE dataset IN mine) UNION "
      "SELECT digest, size FROM snapshot_files WHERE owner IN mine)"));
  query.bind(project);
  if (!TRY(query.step())) return Bytes{};
  return Bytes{static_cast<std::uint64_t>(query.integer(0))};
}

Result<Bytes> DatasetStore::bytes_of(std::string_view project) {
  const std::scoped_lock lock(mutex_);
  return sum_bytes(project);
}

// Within the transaction that named them; what adds nothing is not refused.
Status DatasetStore::check_bytes(std::int64_t dataset, Bytes limit, Bytes before) {
  if (limit == Bytes{}) return {};
  Statement query = TRY(
      database_.prepare("find a dataset's project", "SELECT project FROM datasets WHERE id = ?1"));
  query.bind(dataset);
  if (!TRY(query.step())) return refuse(reason::kNotFound, "the dataset is gone");
  const Bytes sum = TRY(sum_bytes(query.text(0)));
  if (sum <= limit || sum <= before) return {};
  return refuse(reason::kQuotaExceeded,
                fmt::format("data_bytes: the project's datasets would keep {} of its {}; mayfly "
                            "data delete erases snapshots",
                            to_string(sum), to_string(limit)));
}

Result<bool> DatasetStore::names(const Digest& blob) {
  const std::scoped_lock lock(mutex_);
  Statement query =
      TRY(database_.prepare("look whether a dataset names a blob",
                            "SELECT 1 FROM part_files WHERE digest = ?1 UNION ALL "
                            "SELECT 1 FROM snapshot_files WHERE digest = ?1 LIMIT 1"));
  query.bind(std::span(blob.bytes));
  return query.step();
}

Status DatasetStore::copy_to(const Path& path, const std::function<void(const Digest&)>& named) {
  const std::scoped_lock lock(mutex_);
  TRY(database_.copy_to(path));
  Statement query = TRY(
      database_.prepare("list what datasets are made of",
                        "SELECT digest FROM part_files UNION SELECT digest FROM snapshot_files"));
  while (TRY(query.step())) named(kept_digest(query, 0));
  return {};
}

}  // namespace mayfly
