// Schedules on the disk, in an SQLite database of their own. Everything blocks, is durable when it
// returns, and may be called from any thread but the loop's.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "events/schedule.h"
#include "store/sqlite.h"

namespace mayfly {

class ScheduleStore {
 public:
  static constexpr std::size_t kMostOfProject = 1000;
  static constexpr std::size_t kKeptRuns = 100;  // of a schedule, the last ones
  static Result<std::unique_ptr<ScheduleStore>> open(const Path& path);

  // conflict: the project has one of this name. quota_exceeded: it has kMostOfProject.
  Status add(const Schedule& schedule);
  Result<std::vector<Schedule>> list(std::string_view project);            // by name
  Result<Schedule> find(std::string_view project, std::string_view name);  // not_found
  // What it was.
  Result<Schedule> remove(std::string_view project, std::string_view name);
  // Paused, if there is no `next`.
  Status set_next(std::string_view id, std::optional<WallTime> next);

  Result<std::vector<Schedule>> due(WallTime now, std::size_t limit);  // the longest due first
  Result<std::optional<WallTime>> next_due();
  // What became of a run, and when the next one is due, unless the schedule was paused or resumed
  // meanwhile: `was` is what was due.
  struct Noted {
    ScheduleRun run;
    std::optional<WallTime> was;  // nullopt: a run out of turn
    std::optional<WallTime> next;
  };
  Status note(std::string_view id, const Noted& noted);
  Result<std::vector<ScheduleRun>> runs(std::string_view id, std::size_t limit);  // latest first
  // Whether any has it as payload.
  Result<bool> refers_to(const Digest& blob);
  // Whether any has it as its batch's input.
  Result<bool> has_input(const Digest& file);

 private:
  explicit ScheduleStore(Database database) : database_(std::move(database)) {}
  // With mutex_ held.
  Result<std::optional<Schedule>> find_one(std::string_view project, std::string_view name);
  Status add_run(std::string_view id, const ScheduleRun& run);

  std::mutex mutex_;
  Database database_;
};

}  // namespace mayfly
