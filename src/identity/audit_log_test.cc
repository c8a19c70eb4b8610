#include "identity/audit_log.h"

#include <future>
#include <optional>

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

AuditEntry entry(int second, const char* project, const char* who, const char* subject) {
  return {.time = WallTime(std::chrono::seconds(second)),
          .project = project,
          .who = who,
          .from = "127.0.0.1",
          .action = "deploy",
          .subject = subject,
          .outcome = "ok"};
}

}  // namespace

TEST_CASE("the audit log is found by project, who, subject and time, the newest first") {
  const TempDir folder = TempDir::create().value();
  const auto log = AuditLog::open(folder.path() / "identity.db").value();
  REQUIRE(log->append(entry(1, "a", "ann", "fraud")).has_value());
  REQUIRE(log->append(entry(2, "a", "bob", "iris")).has_value());
  REQUIRE(log->append(entry(3, "b", "ann", "fraud")).has_value());
  const auto subjects = [&](const AuditQuery& query) {
    std::string found;
    for (const AuditEntry& one : log->find(query).value())
      found += one.who + ":" + one.subject + " ";
    return found;
  };
  CHECK(subjects({}) == "ann:fraud bob:iris ann:fraud ");
  CHECK(subjects({.project = "a"}) == "bob:iris ann:fraud ");
  CHECK(subjects({.who = "ann"}) == "ann:fraud ann:fraud ");
  CHECK(subjects({.subject = "iris"}) == "bob:iris ");
  CHECK(subjects({.action = "gc"}).empty());
  CHECK(subjects({.since = WallTime(2s)}) == "ann:fraud bob:iris ");
  CHECK(subjects({.limit = 1}) == "ann:fraud ");
}

TEST_CASE("nobody edits or deletes what stands in the audit log, and it survives a restart") {
  const TempDir folder = TempDir::create().value();
  const Path path = folder.path() / "identity.db";
  {
    const auto log = AuditLog::open(path).value();
    REQUIRE(log->append(entry(1, "a", "ann", "fraud")).has_value());
  }
  Database database = Database::open(path, OpenMode::ReadWrite).value();
  for (const char* sql : {"UPDATE audit SET who = 'x'", "DELETE FROM audit"}) {
    const auto refused = database.execute("tamper", sql);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().message.find("append-only") != std::string::npos);
  }
  CHECK(AuditLog::open(path).value()->find({})->size() == 1);
}

TEST_CASE("what stands in the audit log is printable and short") {
  const TempDir folder = TempDir::create().value();
  const auto log = AuditLog::open(folder.path() / "identity.db").value();
  REQUIRE(log->append(entry(1, "a", "ann\n", "\x1b]0;x\x07")).has_value());
  REQUIRE(log->append(entry(1, "a", "ann", std::string(1000, 'x').c_str())).has_value());
  const std::vector<AuditEntry> found = log->find({}).value();
  CHECK(found.at(0).subject == std::string(400, 'x'));
  CHECK(found.at(1).subject == "?]0;x?");
  CHECK(found.at(1).who == "ann?");
}

TEST_CASE("the audit log is read while an entry waits to be written") {
  const TempDir folder = TempDir::create().value();
  const Path path = folder.path() / "identity.db";
  const auto log = AuditLog::open(path).value();
  REQUIRE(log->append(entry(1, "a", "ann", "fraud")).has_value());
  Database other = Database::open(path, OpenMode::ReadWrite).value();
  auto held = std::optional(Transaction::begin(other).value());
  std::promise<void> begun;
  auto appended = std::async(std::launch::async, [&] {
    begun.set_value();
    return log->append(entry(2, "a", "ann", "fraud")).has_value();
  });
  begun.get_future().wait();
  for (int i = 0; i < 100; ++i) CHECK(log->find({.project = "a"})->size() == 1);
  held.reset();
  CHECK(appended.get());
  CHECK(log->find({.project = "a"})->size() == 2);
}
