// Who did what to the node, when, from where, and with what outcome: every control action, refused
// ones included. Append-only: identity.db refuses to edit or delete an entry. Calls block; any
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "store/sqlite.h"

namespace mayfly {

struct AuditEntry {
  std::uint64_t sequence = 0;  // given by append()
  WallTime time{};
  std::string project;
  std::string who;      // a principal's name; empty: nobody that is known
  std::string from;     // the peer's address; "unix"
  std::string action;   // "deploy", "key.create"
  std::string subject;  // what it was done to: a function, a key's id, a project; empty: the node
  std::string outcome;  // "ok", or the reason it was refused for
};

// "ok", or the error's reason.
std::string outcome_of(const Status& outcome);

struct AuditQuery {
  // Empty: all.
  std::string project = {};
  std::string who = {};
  std::string subject = {};
  std::string action = {};
  WallTime since{};
  std::uint32_t limit = 100;
};

class AuditLog {
 public:
  static Result<std::unique_ptr<AuditLog>> open(const Path& database);

  // Texts are shortened and made printable.
  Status append(const AuditEntry& entry);
  // The newest first.
  Result<std::vector<AuditEntry>> find(const AuditQuery& query);

 private:
  AuditLog(Database database, Database reading)
      : database_(std::move(database)), reading_(std::move(reading)) {}

  std::mutex mutex_;
  Database database_;
  // Whoever reads a long log holds up nobody who acts.
  std::mutex reading_mutex_;
  Database reading_;
};

}  // namespace mayfly
