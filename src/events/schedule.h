// A schedule: what is sent when, and what became of it last.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "core/invocation.h"
#include "store/digest.h"

namespace mayfly {

// What a schedule does. Numbers stand in databases: append only.
struct ScheduleTarget {
  enum class Kind : std::uint8_t {
    Function = 0,  // the payload is an event of it
    Batch = 1,     // the payload is the request of a job
    Run = 2,       // likewise
  };
  Kind kind = Kind::Function;
  std::string name;  // as its project calls it: "fraud", "fraud@champion"
  bool is_job() const { return kind != Kind::Function; }
  bool operator==(const ScheduleTarget&) const = default;
};
std::string_view to_string(ScheduleTarget::Kind kind);  // "event", "batch", "run"

// What becomes of times that passed while the node was down. Numbers stand in databases.
enum class MissedRuns : std::uint8_t {
  One = 0,   // one run for all of them
  Skip = 1,  // none
};
std::string_view to_string(MissedRuns missed);
std::optional<MissedRuns> parse_missed_runs(std::string_view text);

// What becomes of a run that is due while the one before has not ended. Numbers stand in databases.
enum class OverlappingRuns : std::uint8_t {
  Skip = 0,   // it is passed over
  Allow = 1,  // it is made all the same
};
std::string_view to_string(OverlappingRuns overlap);
std::optional<OverlappingRuns> parse_overlapping_runs(std::string_view text);

// Numbers stand in databases.
enum class RunOutcome : std::uint8_t {
  Accepted = 0,     // there is an event or a job, whatever becomes of it
  Missed = 1,       // too late, and the schedule skips those
  Overlapping = 2,  // the run before had not ended
  Refused = 3,      // there is none; the reason says why
};
inline constexpr std::size_t kRunOutcomes = 4;
std::string_view to_string(RunOutcome outcome);

struct ScheduleRun {
  WallTime planned{};
  WallTime at{};
  RunOutcome outcome = RunOutcome::Accepted;
  std::string event;    // of Accepted: its id, or the job's
  std::string reason;   // of Refused
  std::string message;  // of Refused
};

struct Schedule {
  std::string id;
  std::string project;
  std::string name;  // within its project
  ScheduleTarget target;
  std::string cron;
  std::string timezone;
  std::string content_type;
  Digest payload;
  MissedRuns missed = MissedRuns::One;
  OverlappingRuns overlap = OverlappingRuns::Skip;
  bool paused = false;
  WallTime created{};
  std::string caller;            // who made it: its runs are his
  std::optional<WallTime> next;  // nullopt: paused
  std::optional<ScheduleRun> last;
  std::string event;            // the last one that there was, or the last job
  std::optional<Digest> input;  // of a batch: a file among those of jobs
};

// Of the event of the run that is planned for `next`: nobody else can choose such a key, and a
// schedule that is made anew has another id.
std::string run_key(const Schedule& schedule);
// Of the job of that run, likewise: made of the planned time and of run_key().
InvocationId run_job_id(const Schedule& schedule);
// The function whose events the runs are, as the node knows it.
std::string lane_of(const Schedule& schedule);
// The first time after `after`. invalid_setting: no such time, or a zone that the system has no
// more. Reads the zone: for a pool.
Result<WallTime> next_run(const Schedule& schedule, WallTime after);

}  // namespace mayfly
