#include "events/schedule_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "core/caller_reason.h"
#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {
namespace {

// `next` is null while a schedule is paused; `ran_*` while it has not run.
constexpr const char* kScheduleSchema = R"sql(
CREATE TABLE IF NOT EXISTS schedule(
  id TEXT PRIMARY KEY,
  project TEXT NOT NULL,
  name TEXT NOT NULL,
  target_kind INTEGER NOT NULL,
  target TEXT NOT NULL,
  cron TEXT NOT NULL,
  timezone TEXT NOT NULL,
  content_type TEXT NOT NULL,
  payload BLOB NOT NULL,
  missed INTEGER NOT NULL,
  created INTEGER NOT NULL,
  caller TEXT NOT NULL,
  next INTEGER,
  ran_planned INTEGER,
  ran_at INTEGER,
  ran_outcome INTEGER,
  ran_reason TEXT,
  ran_message TEXT,
  event TEXT NOT NULL DEFAULT '',
  UNIQUE(project, name)
) STRICT;
CREATE INDEX IF NOT EXISTS schedule_due ON schedule(next) WHERE next IS NOT NULL;
CREATE INDEX IF NOT EXISTS schedule_by_payload ON schedule(payload);
CREATE TABLE IF NOT EXISTS schedule_run(
  number INTEGER PRIMARY KEY,
  schedule TEXT NOT NULL REFERENCES schedule(id) ON DELETE CASCADE,
  planned INTEGER NOT NULL,
  at INTEGER NOT NULL,
  outcome INTEGER NOT NULL,
  event TEXT NOT NULL,
  reason TEXT NOT NULL,
  message TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS schedule_runs ON schedule_run(schedule, number);
)sql";

// In the order in which read_schedule() takes them.
constexpr std::string_view kScheduleColumns =
    "id, project, name, target_kind, target, cron, timezone, content_type, payload, missed, "
    "created, caller, next, ran_planned, ran_at, ran_outcome, ran_reason, ran_message, event, "
    "overlap, input";

std::int64_t schedule_ns(WallTime time) { return time.time_since_epoch().count(); }
WallTime schedule_time(std::int64_t ns) { return WallTime(Duration(ns)); }
std::optional<std::int64_t> optional_ns(const std::optional<WallTime>& time) {
  return time ? std::optional(schedule_ns(*time)) : std::nullopt;
}

Digest digest_of(std::span<const std::byte> bytes) {
  Digest digest;
  if (bytes.size() == digest.bytes.size()) std::ranges::copy(bytes, digest.bytes.begin());
  return digest;
}

RunOutcome read_outcome(std::int64_t number) {
  return static_cast<RunOutcome>(std::clamp<std::int64_t>(number, 0, kRunOutcomes - 1));
}

Schedule read_schedule(const Statement& row) {
  Schedule schedule{
      .id = row.text(0),
      .project = row.text(1),
      .name = row.text(2),
      .target = {.kind = static_cast<ScheduleTarget::Kind>(row.integer(3)), .name = row.text(4)},
      .cron = row.text(5),
      .timezone = row.text(6),
      .content_type = row.text(7),
      .payload = digest_of(row.blob(8)),
      .missed = row.integer(9) == 0 ? MissedRuns::One : MissedRuns::Skip,
      .overlap = row.integer(19) == 0 ? OverlappingRuns::Skip : OverlappingRuns::Allow,
      .paused = row.is_null(12),
      .created = schedule_time(row.integer(10)),
      .caller = row.text(11),
      .next = {},
      .last = {},
      .event = row.text(18),
      .input = {}};
  if (!row.is_null(20)) schedule.input = digest_of(row.blob(20));
  if (!schedule.paused) schedule.next = schedule_time(row.integer(12));
  if (!row.is_null(14)) {
    schedule.last = ScheduleRun{.planned = schedule_time(row.integer(13)),
                                .at = schedule_time(row.integer(14)),
                                .outcome = read_outcome(row.integer(15)),
                                .event = "",
                                .reason = row.text(16),
                                .message = row.text(17)};
    if (schedule.last->outcome == RunOutcome::Accepted) schedule.last->event = schedule.event;
  }
  return schedule;
}

Result<std::vector<Schedule>> read_schedules(Statement& query) {
  std::vector<Schedule> schedules;
  while (TRY(query.step())) schedules.push_back(read_schedule(query));
  return schedules;
}

std::string select_schedules(std::string_view rest) {
  return fmt::format("SELECT {} FROM schedule {}", kScheduleColumns, rest);
}

std::unexpected<Error> no_schedule(std::string_view name) {
  return refuse(reason::kNotFound, fmt::format("there is no schedule '{}'", printable(name, 64)));
}

}  // namespace

Result<std::unique_ptr<ScheduleStore>> ScheduleStore::open(const Path& path) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the table of schedules", kScheduleSchema));
  // Of later versions than the table.
  TRY(database.add_column("schedule", "overlap", "INTEGER NOT NULL DEFAULT 0"));
  TRY(database.add_column("schedule", "input", "BLOB"));
  return std::unique_ptr<ScheduleStore>(new ScheduleStore(std::move(database)));
}

Result<std::optional<Schedule>> ScheduleStore::find_one(std::string_view project,
                                                        std::string_view name) {
  Statement query = TRY(
      database_.prepare("find a schedule", select_schedules("WHERE project = ?1 AND name = ?2")));
  query.bind(project, name);
  if (!TRY(query.step())) return std::nullopt;
  return read_schedule(query);
}

Status ScheduleStore::add(const Schedule& schedule) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  if (TRY(find_one(schedule.project, schedule.name))) {
    return refuse(reason::kConflict, fmt::format("there is a schedule '{}'; delete it first",
                                                 printable(schedule.name, 64)));
  }
  {
    Statement count = TRY(database_.prepare("count a project's schedules",
                                            "SELECT count(*) FROM schedule WHERE project = ?1"));
    count.bind(std::string_view(schedule.project));
    const bool counted = TRY(count.step());
    if (counted && count.integer(0) >= static_cast<std::int64_t>(kMostOfProject)) {
      return refuse(reason::kQuotaExceeded,
                    fmt::format("a project has at most {} schedules", kMostOfProject));
    }
  }
  {
    Statement insert = TRY(database_.prepare(
        "add a schedule",
        "INSERT INTO schedule(id, project, name, target_kind, target, cron, timezone, "
        "content_type, payload, missed, created, caller, next, overlap, input) "
        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"));
    const auto input = schedule.input
                           ? std::optional(std::span<const std::byte>(schedule.input->bytes))
                           : std::nullopt;
    insert.bind(std::string_view(schedule.id), std::string_view(schedule.project),
                std::string_view(schedule.name), static_cast<std::int64_t>(schedule.target.kind),
                std::string_view(schedule.target.name), std::string_view(schedule.cron),
                std::string_view(schedule.timezone), std::string_view(schedule.content_type),
                std::span(schedule.payload.bytes), static_cast<std::int64_t>(schedule.missed),
                schedule_ns(schedule.created), std::string_view(schedule.caller),
                optional_ns(schedule.next), static_cast<std::int64_t>(schedule.overlap), input);
    TRY(insert.run());
  }
  return transaction.commit();
}

Result<std::vector<Schedule>> ScheduleStore::list(std::string_view project) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(
      database_.prepare("list schedules", select_schedules("WHERE project = ?1 ORDER BY name")));
  query.bind(project);
  return read_schedules(query);
}

Result<Schedule> ScheduleStore::find(std::string_view project, std::string_view name) {
  const std::scoped_lock lock(mutex_);
  auto found = TRY(find_one(project, name));
  if (!found) return no_schedule(name);
  return *std::move(found);
}

Result<Schedule> ScheduleStore::remove(std::string_view project, std::string_view name) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  auto found = TRY(find_one(project, name));
  if (!found) return no_schedule(name);
  {
    Statement remove =
        TRY(database_.prepare("remove a schedule", "DELETE FROM schedule WHERE id = ?1"));
    remove.bind(std::string_view(found->id));
    TRY(remove.run());
  }
  TRY(transaction.commit());
  return *std::move(found);
}

Status ScheduleStore::set_next(std::string_view id, std::optional<WallTime> next) {
  const std::scoped_lock lock(mutex_);
  Statement update = TRY(database_.prepare("pause or resume a schedule",
                                           "UPDATE schedule SET next = ?2 WHERE id = ?1"));
  update.bind(id, optional_ns(next));
  return update.run();
}

Result<std::vector<Schedule>> ScheduleStore::due(WallTime now, std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare(
      "find due schedules", select_schedules("WHERE next <= ?1 ORDER BY next, id LIMIT ?2")));
  query.bind(schedule_ns(now), static_cast<std::int64_t>(limit));
  return read_schedules(query);
}

Result<std::optional<WallTime>> ScheduleStore::next_due() {
  const std::scoped_lock lock(mutex_);
  Statement query =
      TRY(database_.prepare("when a schedule is due", "SELECT min(next) FROM schedule"));
  if (!TRY(query.step()) || query.is_null(0)) return std::nullopt;
  return schedule_time(query.integer(0));
}

Status ScheduleStore::note(std::string_view id, const Noted& noted) {
  const std::scoped_lock lock(mutex_);
  Transaction transaction = TRY(Transaction::begin(database_));
  {
    const ScheduleRun& run = noted.run;
    Statement update = TRY(database_.prepare(
        "note a run",
        "UPDATE schedule SET ran_planned = ?2, ran_at = ?3, ran_outcome = ?4, ran_reason = ?5, "
        "ran_message = ?6, event = CASE ?7 WHEN '' THEN event ELSE ?7 END WHERE id = ?1"));
    update.bind(id, schedule_ns(run.planned), schedule_ns(run.at),
                static_cast<std::int64_t>(run.outcome), std::string_view(run.reason),
                std::string_view(run.message), std::string_view(run.event));
    TRY(update.run());
  }
  TRY(add_run(id, noted.run));
  if (noted.was) {
    Statement update =
        TRY(database_.prepare("when a schedule is due again",
                              "UPDATE schedule SET next = ?3 WHERE id = ?1 AND next = ?2"));
    update.bind(id, schedule_ns(*noted.was), optional_ns(noted.next));
    TRY(update.run());
  }
  return transaction.commit();
}

// One more, and none of those that are too many then. Of a schedule that is gone: none.
Status ScheduleStore::add_run(std::string_view id, const ScheduleRun& run) {
  Statement insert = TRY(database_.prepare(
      "keep a run",
      "INSERT INTO schedule_run(schedule, planned, at, outcome, event, reason, message) "
      "SELECT id, ?2, ?3, ?4, ?5, ?6, ?7 FROM schedule WHERE id = ?1"));
  insert.bind(id, schedule_ns(run.planned), schedule_ns(run.at),
              static_cast<std::int64_t>(run.outcome), std::string_view(run.event),
              std::string_view(run.reason), std::string_view(run.message));
  TRY(insert.run());
  Statement forget = TRY(database_.prepare(
      "forget old runs",
      "DELETE FROM schedule_run WHERE schedule = ?1 AND number <= (SELECT number FROM schedule_run "
      "WHERE schedule = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)"));
  forget.bind(id, static_cast<std::int64_t>(kKeptRuns));
  return forget.run();
}

Result<std::vector<ScheduleRun>> ScheduleStore::runs(std::string_view id, std::size_t limit) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare(
      "list a schedule's runs",
      "SELECT planned, at, outcome, event, reason, message FROM schedule_run WHERE schedule = ?1 "
      "ORDER BY number DESC LIMIT ?2"));
  query.bind(id, static_cast<std::int64_t>(limit));
  std::vector<ScheduleRun> found;
  while (TRY(query.step())) {
    found.push_back({.planned = schedule_time(query.integer(0)),
                     .at = schedule_time(query.integer(1)),
                     .outcome = read_outcome(query.integer(2)),
                     .event = query.text(3),
                     .reason = query.text(4),
                     .message = query.text(5)});
  }
  return found;
}

Result<bool> ScheduleStore::has_input(const Digest& file) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare("look for a schedule's input",
                                          "SELECT 1 FROM schedule WHERE input = ?1 LIMIT 1"));
  query.bind(std::span(file.bytes));
  return query.step();
}

Result<bool> ScheduleStore::refers_to(const Digest& blob) {
  const std::scoped_lock lock(mutex_);
  Statement query = TRY(database_.prepare("look for a schedule's blob",
                                          "SELECT 1 FROM schedule WHERE payload = ?1 LIMIT 1"));
  query.bind(std::span(blob.bytes));
  return query.step();
}

}  // namespace mayfly
