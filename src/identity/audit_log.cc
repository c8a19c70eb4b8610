#include "identity/audit_log.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr const char* kAuditSchema = R"sql(
CREATE TABLE IF NOT EXISTS audit(
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  time INTEGER NOT NULL,
  project TEXT NOT NULL,
  who TEXT NOT NULL,
  origin TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  outcome TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS audit_by_subject ON audit(project, subject, sequence);
CREATE INDEX IF NOT EXISTS audit_by_project ON audit(project, sequence);

CREATE TRIGGER IF NOT EXISTS audit_is_never_edited BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_is_never_deleted BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
)sql";

constexpr std::size_t kMaxText = 400;  // more than any name of a caller has

// What came from outside is kept short, and says nothing to the terminal that shows it.
std::string kept(std::string_view text) { return printable(text, kMaxText); }

// A condition that the planner can find by an index, or one that is decided before any row is read.
// The parameter is in it either way, so that all have the same numbers.
std::string condition(const char* column, int parameter, const std::string& wanted) {
  return wanted.empty() ? fmt::format("?{} = ''", parameter)
                        : fmt::format("{} = ?{}", column, parameter);
}

std::string select_text(const AuditQuery& query) {
  return fmt::format(
      "SELECT sequence, time, project, who, origin, action, subject, outcome FROM audit "
      "WHERE {} AND {} AND {} AND {} AND time >= ?5 ORDER BY sequence DESC LIMIT ?6",
      condition("project", 1, query.project), condition("who", 2, query.who),
      condition("subject", 3, query.subject), condition("action", 4, query.action));
}

}  // namespace

std::string outcome_of(const Status& outcome) {
  if (outcome) return "ok";
  const std::string_view why = outcome.error().reason;
  return std::string(why.empty() ? reason::kInternal : why);
}

Result<std::unique_ptr<AuditLog>> AuditLog::open(const Path& path) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the audit log", kAuditSchema));
  Database reading = TRY(Database::open(path, OpenMode::ReadOnly));
  return std::unique_ptr<AuditLog>(new AuditLog(std::move(database), std::move(reading)));
}

Status AuditLog::append(const AuditEntry& entry) {
  const std::scoped_lock lock(mutex_);
  Statement insert = TRY(
      database_.prepare("write to the audit log",
                        "INSERT INTO audit(time, project, who, origin, action, subject, outcome) "
                        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"));
  const auto bind = [&](const auto&... texts) {
    insert.bind(entry.time.time_since_epoch().count(), std::string_view(texts)...);
  };
  bind(kept(entry.project), kept(entry.who), kept(entry.from), kept(entry.action),
       kept(entry.subject), kept(entry.outcome));
  return insert.run();
}

Result<std::vector<AuditEntry>> AuditLog::find(const AuditQuery& query) {
  const std::scoped_lock lock(reading_mutex_);
  Statement select = TRY(reading_.prepare("read the audit log", select_text(query)));
  select.bind(std::string_view(query.project), std::string_view(query.who),
              std::string_view(query.subject), std::string_view(query.action),
              query.since.time_since_epoch().count(), query.limit);
  std::vector<AuditEntry> entries;
  while (TRY(select.step())) {
    entries.push_back({.sequence = static_cast<std::uint64_t>(select.integer(0)),
                       .time = WallTime(Duration(select.integer(1))),
                       .project = select.text(2),
                       .who = select.text(3),
                       .from = select.text(4),
                       .action = select.text(5),
                       .subject = select.text(6),
                       .outcome = select.text(7)});
  }
  return entries;
}

}  // namespace mayfly
