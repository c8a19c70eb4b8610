#include "identity/audit_log.h"

#include <string_view>
#include <utility>

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

CREATE TRIGGER IF NOT EXISTS audit_is_never_edited BEFORE UPDATE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_is_never_deleted BEFORE DELETE ON audit
  BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
)sql";

constexpr std::size_t kMaxText = 200;

// What came from outside is kept short.
std::string_view cut(const std::string& text) { return std::string_view(text).substr(0, kMaxText); }

}  // namespace

std::string outcome_of(const Status& outcome) {
  if (outcome) return "ok";
  const std::string_view why = outcome.error().reason;
  return std::string(why.empty() ? reason::kInternal : why);
}

Result<std::unique_ptr<AuditLog>> AuditLog::open(const Path& path) {
  Database database = TRY(Database::open(path, OpenMode::Create));
  TRY(database.execute("create the audit log", kAuditSchema));
  return std::unique_ptr<AuditLog>(new AuditLog(std::move(database)));
}

Status AuditLog::append(const AuditEntry& entry) {
  const std::scoped_lock lock(mutex_);
  Statement insert = TRY(
      database_.prepare("write to the audit log",
                        "INSERT INTO audit(time, project, who, origin, action, subject, outcome) "
                        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"));
  insert.bind(entry.time.time_since_epoch().count(), cut(entry.project), cut(entry.who),
              cut(entry.from), cut(entry.action), cut(entry.subject), cut(entry.outcome));
  return insert.run();
}

Result<std::vector<AuditEntry>> AuditLog::find(const AuditQuery& query) {
  const std::scoped_lock lock(mutex_);
  Statement select = TRY(database_.prepare(
      "read the audit log",
      "SELECT sequence, time, project, who, origin, action, subject, outcome FROM audit "
      "WHERE (?1 = '' OR project = ?1) AND (?2 = '' OR who = ?2) AND (?3 = '' OR subject = ?3) "
      "AND (?4 = '' OR action = ?4) AND time >= ?5 ORDER BY sequence DESC LIMIT ?6"));
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
