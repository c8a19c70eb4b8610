// Two tables:
//
//   jobs        one row each. A paused job has `held` set; while a slice of it still runs its state
//               says so
//   job_files   what its blobs are to it; `slice` counts the checkpoints, from 1; 0: given with it
#include "jobs/job_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <span>
#include <utility>

#include "core/project.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr const char* kJobSchema = R"sql(
CREATE TABLE IF NOT EXISTS jobs(
  id TEXT NOT NULL UNIQUE,
  project TEXT NOT NULL,
  function TEXT NOT NULL,
  version INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  detail TEXT NOT NULL,
  caller TEXT NOT NULL,
  memory INTEGER NOT NULL,
  cpus INTEGER NOT NULL,
  submitted INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  keep INTEGER NOT NULL,
  state INTEGER NOT NULL DEFAULT 0,
  held INTEGER NOT NULL DEFAULT 0,
  epoch INTEGER NOT NULL DEFAULT 0,
  slices INTEGER NOT NULL DEFAULT 0,
  failures INTEGER NOT NULL DEFAULT 0,
  due INTEGER NOT NULL,
  started INTEGER NOT NULL DEFAULT 0,
  ended INTEGER NOT NULL DEFAULT 0,
  fraction REAL NOT NULL DEFAULT -1,
  progress TEXT NOT NULL DEFAULT '',
  metrics TEXT NOT NULL DEFAULT '{}',
  cpu INTEGER NOT NULL DEFAULT 0,
  ran INTEGER NOT NULL DEFAULT 0,
  checkpoint TEXT NOT NULL DEFAULT '',
  result TEXT NOT NULL DEFAULT '',
  reason TEXT NOT NULL DEFAULT '',
  message TEXT NOT NULL DEFAULT '',
  parent TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_by_project ON jobs(project, id);
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs(project, submitted) WHERE state = 0 AND held = 0;
CREATE INDEX IF NOT EXISTS jobs_open ON jobs(expires) WHERE state <= 2;
CREATE INDEX IF NOT EXISTS jobs_over ON jobs(ended) WHERE state > 2;
CREATE TABLE IF NOT EXISTS job_files(
  job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
  slice INTEGER NOT NULL,
  role INTEGER NOT NULL,
  name TEXT NOT NULL,
  digest BLOB NOT NULL,
  size INTEGER NOT NULL,
  PRIMARY KEY(job, slice, role, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS job_files_by_digest ON job_files(digest);
)sql";

// In the order in which read_job() takes them.
constexpr std::string_view kJobColumns =
    "id, function, version, kind, detail, caller, memory, submitted, expires, keep, state, held, "
    "epoch, slices, failures, due, started, ended, fraction * 1000000, progress, metrics, cpu, "
    "ran, "
    "checkpoint, result, reason, message, cpus, parent";

constexpr const char* kParentIndex =
    "CREATE INDEX IF NOT EXISTS jobs_by_parent ON jobs(parent, id) WHERE parent <> ''";

constexpr std::size_t kLongestMessage = 2000;
constexpr std::uint32_t kKeptCheckpoints = 2;
// As of ?1; parts with what they are parts of.
constexpr std::string_view kForgotten =
    "coalesce((SELECT whole.state > 2 AND whole.ended + whole.keep <= ?1 FROM jobs AS whole WHERE "
    "whole.id = jobs.parent AND jobs.parent <> ''), state > 2 AND ended + keep <= ?1)";

std::int64_t to_ns(WallTime time) { return time.time_since_epoch().count(); }
WallTime from_ns(std::int64_t ns) { return WallTime(Duration(ns)); }

JobRecord read_job(const Statement& row) {
  JobRecord job;
  job.spec = {.id = row.text(0),
              .function = row.text(1),
              .version = static_cast<std::uint32_t>(row.integer(2)),
              .kind = static_cast<JobKind>(row.integer(3)),
              .detail = row.text(4),
              .caller = row.text(5),
              .memory = {static_cast<std::uint64_t>(row.integer(6))},
              .cpus = static_cast<std::uint32_t>(row.integer(27)),
              .submitted = from_ns(row.integer(7)),
              .expires = from_ns(row.integer(8)),
              .keep = Duration(row.integer(9)),
              .parent = row.text(28)};
  job.state = static_cast<JobState>(row.integer(10));
  job.held = row.integer(11) != 0;
  job.epoch = static_cast<std::uint64_t>(row.integer(12));
  job.slices = static_cast<std::uint32_t>(row.integer(13));
  job.failures = static_cast<std::uint32_t>(row.integer(14));
  job.due = from_ns(row.integer(15));
  job.started = from_ns(row.integer(16));
  job.ended = from_ns(row.integer(17));
  job.progress = {.fraction = static_cast<double>(row.integer(18)) / 1e6,
                  .text = row.text(19),
                  .metrics = row.text(20)};
  job.cpu = Duration(row.integer(21));
  job.ran = Duration(row.integer(22));
  job.checkpoint = row.text(23);
  job.result = row.text(24);
  job.reason = row.text(25);
  job.message = row.text(26);
  return job;
}

std::string select_jobs(std::string_view rest) {
  return fmt::format("SELECT {} FROM jobs {}", kJobColumns, rest);
}

// Without what may be long.
std::string select_briefly(std::string_view rest) {
  std::string columns(kJobColumns);
  for (const std::string_view column : {" detail,", " checkpoint,", " result,"}) {
    const std::size_t at = columns.find(column);
    columns.replace(at, column.size(), " '',");
  }
  return fmt::format("SELECT {} FROM jobs {}", columns, rest);
}

Result<bool> changes_a_row(Statement& statement) {
  const bool changed = TRY(statement.step());
  TRY(statement.run());
  return changed;
}

std::unexpected<Error> lost(const JobLease& lease) {
  return refuse(reason::kConflict,
                fmt::format("{} is no longer held under epoch {}", lease.id, lease.epoch));
}

Digest digest_in(const Statement& row, int column) {
  Digest digest;
  const auto bytes = row.blob(column);
  if (bytes.size() == digest.bytes.size()) std::ranges::copy(bytes, digest.bytes.begin());
  return digest;
}

std::string cut(const std::string& message) { return message.substr(0, kLongestMessage); }

}  // namespace

Result<std::unique_ptr<JobStore>> JobStore::open(const Path& path, BlobStore& blobs,
                                                 const Clock& clock,
                                                 NamedElsewhere named_elsewhere) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the tables of jobs", kJobSchema));
  TRY(database.add_column("jobs", "parent", "TEXT NOT NULL DEFAULT ''"));
  TRY(database.execute("create the index of jobs' parts", kParentIndex));
  return std::unique_ptr<JobStore>(
      new JobStore(std::move(database), blobs, clock, std::move(named_elsewhere)));
}

Status JobStore::insert_files(std::string_view id, std::uint32_t slice,
                              const std::vector<JobFile>& files) {
  Statement insert = TRY(database_.prepare(
      "name a job's file", "INSERT OR REPLACE INTO job_files VALUES(?1, ?2, ?3, ?4, ?5, ?6)"));
  for (const JobFile& file : files) {
    insert.bind(id, slice, std::int64_t{static_cast<std::uint8_t>(file.role)},
                std::string_view(file.name), std::span(file.digest.bytes),
                static_cast<std::int64_t>(file.size));
    TRY(insert.run());
  }
  return {};
}

// `which`: a condition on `role`. What they named, for the caller to remove.
Result<std::vector<Digest>> JobStore::drop_files(std::string_view id, std::string_view which,
                                                 std::uint32_t below) {
  Statement remove = TRY(database_.prepare(
      "drop a job's files",
      fmt::format("DELETE FROM job_files WHERE job = ?1 AND slice < ?2 AND {} RETURNING digest",
                  which)));
  remove.bind(id, below);
  std::vector<Digest> dropped;
  while (TRY(remove.step())) dropped.push_back(digest_in(remove, 0));
  return dropped;
}

Status JobStore::submit(const JobSubmission& job, const std::vector<JobFile>& inputs,
                        const Limits& limits) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  const std::string project(project_of(job.function));
  {
    Statement count = TRY(database_.prepare(
        "count jobs", "SELECT count(*) FROM jobs WHERE project = ?1 AND state <= 2"));
    count.bind(std::string_view(project));
    if (TRY(count.step()) && static_cast<std::uint64_t>(count.integer(0)) >= limits.open)
      return refuse(reason::kQueueFull, fmt::format("{} jobs wait or run already", limits.open));
  }
  {
    Statement insert = TRY(database_.prepare(
        "submit a job",
        "INSERT INTO jobs(id, project, function, version, kind, detail, caller, memory, submitted, "
        "expires, keep, due, cpus, parent) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, "
        "?9, ?12, ?13)"));
    insert.bind(std::string_view(job.id), std::string_view(project), std::string_view(job.function),
                job.version, std::int64_t{static_cast<std::uint8_t>(job.kind)},
                std::string_view(job.detail), std::string_view(job.caller),
                static_cast<std::int64_t>(job.memory.count), to_ns(job.submitted),
                to_ns(job.expires), job.keep.count(), job.cpus, std::string_view(job.parent));
    TRY(insert.run());
  }
  const Bytes before = limits.bytes == Bytes{} ? Bytes{} : TRY(sum_bytes(project));
  TRY(insert_files(job.id, 0, inputs));
  TRY(check_bytes(project, limits.bytes, before));
  return transaction.commit();
}

Result<std::optional<JobRecord>> JobStore::find_job(std::string_view id) {
  Statement query = TRY(database_.prepare("find a job", select_jobs("WHERE id = ?1")));
  query.bind(id);
  if (!TRY(query.step())) return std::nullopt;
  return read_job(query);
}

Result<JobRecord> JobStore::job(std::string_view id) {
  auto found = TRY(find_job(id));
  if (!found)
    return refuse(reason::kNotFound, fmt::format("there is no job '{}'", id.substr(0, 64)));
  return *std::move(found);
}

Result<std::optional<JobRecord>> JobStore::find(std::string_view id) {
  const std::scoped_lock lock(mutex_);
  return find_job(id);
}

Result<std::vector<JobRecord>> JobStore::list(const ListAsk& ask) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare(
      "list jobs",
      select_briefly("WHERE project = ?1 AND id < ?2 AND (?3 = '' OR function = ?3) AND "
                     "(?4 < 0 OR state = ?4) AND parent = ?6 ORDER BY id DESC LIMIT ?5")));
  query.bind(std::string_view(ask.project), ask.before.empty() ? "~" : std::string_view(ask.before),
             std::string_view(ask.function),
             ask.state ? std::int64_t{static_cast<std::uint8_t>(*ask.state)} : std::int64_t{-1},
             static_cast<std::int64_t>(ask.limit), std::string_view(ask.parent));
  std::vector<JobRecord> found;
  while (TRY(query.step())) found.push_back(read_job(query));
  return found;
}

Result<std::vector<JobFile>> JobStore::files(std::string_view id) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare("list a job's files",
                                          "SELECT role, name, digest, size, slice FROM job_files "
                                          "WHERE job = ?1 ORDER BY slice, role, name"));
  query.bind(id);
  std::vector<JobFile> found;
  while (TRY(query.step())) {
    found.push_back({.role = static_cast<FileRole>(query.integer(0)),
                     .name = query.text(1),
                     .digest = digest_in(query, 2),
                     .size = static_cast<std::uint64_t>(query.integer(3)),
                     .slice = static_cast<std::uint32_t>(query.integer(4))});
  }
  return found;
}

// Around, from the one after.
Result<std::optional<JobRecord>> JobStore::lease(const LeaseAsk& ask) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare(
      "find the next job",
      "SELECT id FROM jobs WHERE state = 0 AND held = 0 AND due <= ?1 AND expires > ?1 AND "
      "memory <= ?3 AND cpus <= ?4 ORDER BY project <= ?2, project, due, id LIMIT 1"));
  query.bind(to_ns(ask.now), std::string_view(ask.after_project),
             static_cast<std::int64_t>(ask.memory.count), ask.cpus);
  if (!TRY(query.step())) return std::nullopt;
  const std::string id = query.text(0);
  query.reset();
  Statement update = TRY(database_.prepare(
      "lease a job",
      "UPDATE jobs SET state = 1, epoch = epoch + 1, started = iif(started = 0, ?2, started) "
      "WHERE id = ?1"));
  update.bind(std::string_view(id), to_ns(ask.now));
  TRY(update.run());
  return job(id);
}

Result<std::optional<WallTime>> JobStore::next_due(const LeaseAsk& most) {
  const std::scoped_lock lock(mutex_);
  Statement query =
      TRY(database_.prepare("find when a job is due",
                            "SELECT min(due) FROM jobs WHERE state = 0 AND held = 0 AND "
                            "expires > ?1 AND memory <= ?2 AND cpus <= ?3"));
  query.bind(to_ns(most.now), static_cast<std::int64_t>(most.memory.count), most.cpus);
  if (!TRY(query.step()) || query.is_null(0)) return std::nullopt;
  return from_ns(query.integer(0));
}

// What every end of a slice writes; `how` sets the rest.
Result<JobRecord> JobStore::end_slice(const JobLease& lease, std::string_view how,
                                      const Spent& spent, const SliceEnding& ending) {
  Statement update = TRY(database_.prepare(
      "end a slice",
      fmt::format("UPDATE jobs SET epoch = epoch + 1, cpu = cpu + ?3, ran = ran + ?4, "
                  "progress = ?5, metrics = ?6, fraction = ?7 / 1000000.0, due = ?8, ended = ?9, "
                  "checkpoint = iif(?10 = '', checkpoint, ?10), result = ?11, reason = ?12, "
                  "message = ?13, {} WHERE id = ?1 AND epoch = ?2 AND state = 1 RETURNING id",
                  how)));
  const std::string message = cut(ending.message);
  update.bind(std::string_view(lease.id), static_cast<std::int64_t>(lease.epoch), spent.cpu.count(),
              spent.ran.count(), std::string_view(spent.progress.text),
              std::string_view(spent.progress.metrics),
              static_cast<std::int64_t>(spent.progress.fraction * 1e6), to_ns(ending.due),
              to_ns(ending.ended), std::string_view(ending.checkpoint),
              std::string_view(ending.result), std::string_view(ending.reason),
              std::string_view(message));
  if (!TRY(changes_a_row(update))) return lost(lease);
  return job(lease.id);
}

Result<JobRecord> JobStore::advance(const JobLease& lease, WallTime now, SliceResult slice,
                                    const Spent& spent, Bytes limit) {
  std::vector<Digest> dropped;
  const auto commit = [&]() -> Result<JobRecord> {
    const std::scoped_lock lock(mutex_);
    Transaction transaction = TRY(Transaction::begin(database_));
    const SliceEnding ending{.due = now,
                             .ended = slice.finished ? now : WallTime{},
                             .checkpoint = std::move(slice.checkpoint),
                             .result = std::move(slice.result)};
    const bool counts = !slice.finished && (!slice.files.empty() || !ending.checkpoint.empty());
    JobRecord moved =
        TRY(end_slice(lease,
                      fmt::format("slices = slices + {}, failures = 0, state = {}", counts ? 1 : 0,
                                  slice.finished ? "3" : "iif(held, 2, 0)"),
                      spent, ending));
    const std::string_view project = project_of(moved.spec.function);
    const Bytes before = limit == Bytes{} ? Bytes{} : TRY(sum_bytes(project));
    TRY(insert_files(lease.id, moved.slices + (slice.finished ? 1 : 0), slice.files));
    dropped = TRY(drop_what_ended(moved, now));
    TRY(check_bytes(project, limit, before));
    TRY(transaction.commit());
    return moved;
  };
  auto moved = commit();
  if (moved) clean_up(dropped);
  return moved;
}

Status JobStore::keep(const JobLease& lease, const std::string& checkpoint,
                      const std::vector<JobFile>& files, const JobProgress& progress, Bytes limit) {
  std::vector<Digest> dropped;
  const auto commit = [&]() -> Status {
    const std::scoped_lock lock(mutex_);
    Transaction transaction = TRY(Transaction::begin(database_));
    {
      Statement update = TRY(database_.prepare(
          "keep a checkpoint",
          "UPDATE jobs SET slices = slices + 1, checkpoint = ?3, progress = ?4, metrics = ?5, "
          "failures = iif(?6 / 1000000.0 > fraction, 0, failures), fraction = ?6 / 1000000.0 "
          "WHERE id = ?1 AND epoch = ?2 AND state = 1 RETURNING id"));
      update.bind(std::string_view(lease.id), static_cast<std::int64_t>(lease.epoch),
                  std::string_view(checkpoint), std::string_view(progress.text),
                  std::string_view(progress.metrics),
                  static_cast<std::int64_t>(progress.fraction * 1e6));
      if (!TRY(changes_a_row(update))) return lost(lease);
    }
    const JobRecord now = TRY(job(lease.id));
    const std::string_view project = project_of(now.spec.function);
    const Bytes before = limit == Bytes{} ? Bytes{} : TRY(sum_bytes(project));
    TRY(insert_files(lease.id, now.slices, files));
    dropped = TRY(drop_old_files(now));
    TRY(check_bytes(project, limit, before));
    return transaction.commit();
  };
  TRY(commit());
  clean_up(dropped);
  return {};
}

// Of what is over only the result stays.
Result<std::vector<Digest>> JobStore::drop_old_files(const JobRecord& job) {
  constexpr std::uint32_t kAll = std::numeric_limits<std::uint32_t>::max();
  if (is_over(job.state)) {
    return drop_files(job.spec.id, fmt::format("role <> {}", static_cast<int>(FileRole::Result)),
                      kAll);
  }
  const std::uint32_t first_kept =
      job.slices + 1 > kKeptCheckpoints ? job.slices + 1 - kKeptCheckpoints : 0;
  return drop_files(job.spec.id, fmt::format("role = {}", static_cast<int>(FileRole::Checkpoint)),
                    first_kept);
}

Result<JobRecord> JobStore::retry(const JobLease& lease, WallTime due, const Error& why,
                                  const Spent& spent) {
  const std::scoped_lock lock(mutex_);
  return end_slice(lease, "failures = failures + 1, state = iif(held, 2, 0)", spent,
                   {.due = due, .reason = std::string(why.reason), .message = why.message});
}

Result<JobRecord> JobStore::put_back(const JobLease& lease, WallTime due, const Spent& spent) {
  const std::scoped_lock lock(mutex_);
  return end_slice(lease, "state = iif(held, 2, 0)", spent, {.due = due});
}

Result<JobRecord> JobStore::give_up(const JobLease& lease, WallTime now, const Error& why,
                                    const Spent& spent) {
  return end_job(now, [&] {
    return end_slice(
        lease, "failures = failures + 1, state = 4", spent,
        {.due = now, .ended = now, .reason = std::string(why.reason), .message = why.message});
  });
}

// And its parts end with what is over.
Result<std::vector<Digest>> JobStore::drop_what_ended(const JobRecord& job, WallTime now) {
  std::vector<Digest> dropped = TRY(drop_old_files(job));
  if (!is_over(job.state)) return dropped;
  std::vector<std::string> ended;
  {
    Statement cancel = TRY(database_.prepare(
        "end a job's parts",
        "UPDATE jobs SET state = 5, epoch = epoch + 1, ended = ?2 WHERE parent = ?1 AND "
        "parent <> '' AND state <= 2 RETURNING id"));
    cancel.bind(std::string_view(job.spec.id), to_ns(now));
    while (TRY(cancel.step())) ended.push_back(cancel.text(0));
  }
  for (const std::string& id : ended) {
    const JobRecord part = TRY(this->job(id));
    std::ranges::move(TRY(drop_old_files(part)), std::back_inserter(dropped));
  }
  return dropped;
}

// One transaction: nobody sees a job that is over and keeps more than its result.
Result<JobRecord> JobStore::end_job(WallTime now, const std::function<Result<JobRecord>()>& end) {
  std::vector<Digest> dropped;
  const auto commit = [&]() -> Result<JobRecord> {
    const std::scoped_lock lock(mutex_);
    Transaction transaction = TRY(Transaction::begin(database_));
    JobRecord ended = TRY(end());
    dropped = TRY(drop_what_ended(ended, now));
    TRY(transaction.commit());
    return ended;
  };
  auto ended = commit();
  if (ended) clean_up(dropped);
  return ended;
}

Result<JobRecord> JobStore::cancel(std::string_view id, WallTime now) {
  return end_job(now, [&]() -> Result<JobRecord> {
    Statement update = TRY(database_.prepare(
        "cancel a job",
        "UPDATE jobs SET state = 5, epoch = epoch + 1, ended = ?2 WHERE id = ?1 AND state <= 2 "
        "RETURNING id"));
    update.bind(id, to_ns(now));
    const bool changed = TRY(changes_a_row(update));
    JobRecord found = TRY(job(id));
    if (changed || found.state == JobState::Cancelled) return found;
    return refuse(reason::kConflict,
                  fmt::format("the job is over already: {}", to_string(found.state)));
  });
}

Result<JobRecord> JobStore::pause(std::string_view id) {
  const std::scoped_lock lock(mutex_);
  Statement update = TRY(database_.prepare(
      "pause a job",
      "UPDATE jobs SET held = 1, state = iif(state = 0, 2, state) WHERE (id = ?1 OR parent = ?1) "
      "AND state <= 2 RETURNING id"));
  update.bind(id);
  const bool changed = TRY(changes_a_row(update));
  JobRecord found = TRY(job(id));
  if (changed) return found;
  return refuse(reason::kConflict, fmt::format("the job is over: {}", to_string(found.state)));
}

Result<JobRecord> JobStore::resume(std::string_view id) {
  const std::scoped_lock lock(mutex_);
  Statement update = TRY(database_.prepare(
      "resume a job",
      "UPDATE jobs SET held = 0, state = iif(state = 2, 0, state) WHERE (id = ?1 OR parent = ?1) "
      "AND state <= 2 AND held = 1 RETURNING id"));
  update.bind(id);
  const bool changed = TRY(changes_a_row(update));
  JobRecord found = TRY(job(id));
  if (changed) return found;
  return refuse(reason::kConflict,
                fmt::format("the job is not paused but {}", to_string(found.state)));
}

Result<std::uint64_t> JobStore::recover() {
  const std::scoped_lock lock(mutex_);
  Statement update = TRY(database_.prepare(
      "put back what ran",
      "UPDATE jobs SET state = iif(held, 2, 0), epoch = epoch + 1 WHERE state = 1 RETURNING id"));
  std::uint64_t found = 0;
  while (TRY(update.step())) ++found;
  return found;
}

Result<std::vector<std::string>> JobStore::sweep(WallTime now) {
  std::vector<Digest> dropped;
  std::vector<std::string> expired;
  const auto change = [&]() -> Status {
    const std::scoped_lock lock(mutex_);
    Transaction transaction = TRY(Transaction::begin(database_));
    {
      Statement expire = TRY(database_.prepare(
          "expire jobs",
          "UPDATE jobs SET state = 6, epoch = epoch + 1, ended = ?1 WHERE state <= 2 AND "
          "expires <= ?1 RETURNING id"));
      expire.bind(to_ns(now));
      while (TRY(expire.step())) expired.push_back(expire.text(0));
    }
    for (const std::string& id : expired) {
      const JobRecord over = TRY(job(id));
      std::ranges::move(TRY(drop_what_ended(over, now)), std::back_inserter(dropped));
    }
    {
      Statement names = TRY(database_.prepare(
          "find files of forgotten jobs",
          fmt::format("SELECT digest FROM job_files WHERE job IN (SELECT id FROM jobs WHERE {})",
                      kForgotten)));
      names.bind(to_ns(now));
      while (TRY(names.step())) dropped.push_back(digest_in(names, 0));
    }
    {
      Statement forget = TRY(
          database_.prepare("forget jobs", fmt::format("DELETE FROM jobs WHERE {}", kForgotten)));
      forget.bind(to_ns(now));
      TRY(forget.run());
    }
    return transaction.commit();
  };
  TRY(change());
  {
    const std::scoped_lock lock(mutex_);
    dropped.insert(dropped.end(), watched_.begin(), watched_.end());
    watched_.clear();
  }
  clean_up(dropped);
  return expired;
}

}  // namespace mayfly
