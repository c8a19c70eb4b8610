// Runs schedules: when one is due, an event of its function is accepted, or a job is submitted,
// once for each time that was planned.
//
// The event bears a key made of the schedule and that time, as the job's id is, and only then is
// the schedule moved on: a node that dies between the two finds what it made at its next start. A
// run whose predecessor has not ended is passed over, so that slow ones never pile up, unless the
// schedule allows it.
//
// One timer, armed while a schedule is due some time. Loop thread; what blocks runs on the events'
// pool.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "async/timer.h"
#include "core/invocation.h"
#include "events/event_engine.h"
#include "events/event_store.h"
#include "events/schedule.h"
#include "events/schedule_store.h"

namespace mayfly {

// Jobs, as runs of schedules.
struct ScheduledJobs {
  struct Found {
    WallTime submitted{};
    bool over = false;
    std::string state, reason, message;
  };
  // Durable when it ends. Where there is a job of this id, that is it. `request` is JSON.
  std::function<Task<Status>(Schedule schedule, std::string id, std::string request)> submit;
  std::function<Result<std::optional<Found>>(const std::string& id)> find;  // blocks
  std::function<void(const Digest& input)> drop;  // no schedule names it any more; any thread
};

class ScheduleEngine {
 public:
  // What is later than this was missed.
  static constexpr Duration kOnTime = std::chrono::minutes(1);

  struct Parts {  // all outlive me
    Loop& loop;
    ScheduleStore& schedules;
    EventStore& events;
    EventEngine& engine;
    InvocationIds& ids;
    // All of a run's event but payload and key, by what the function is now; also for one that is
    // gone, whose event says so.
    std::function<EventEngine::Submission(const Schedule&)> submission;
    ScheduledJobs jobs;
  };

  explicit ScheduleEngine(Parts parts);

  // What a killed server left between a run and its note is made whole. Blocks; before the engines
  // run, which would forget the event's key and the job in time.
  Status recover();
  void start();
  void stop();
  Task<void> close();

  // `schedule` without id, payload, created and next; its input is pinned. invalid_setting,
  // conflict, quota_exceeded.
  Task<Result<Schedule>> create(Schedule schedule, std::string payload);
  Task<Result<std::vector<Schedule>>> list(std::string project);
  Task<Result<Schedule>> find(std::string project, std::string name);
  Task<Result<Schedule>> remove(Schedule schedule);
  Task<Result<Schedule>> pause(Schedule schedule);
  // From now on: what was planned meanwhile was not missed.
  Task<Result<Schedule>> resume(Schedule schedule);
  // Out of turn; its own time stays. The id of the event, or of the job.
  Task<Result<std::string>> run_now(Schedule schedule);
  // The last ones, latest first, and how their events and jobs stand.
  struct Run {
    ScheduleRun run;    // with why the event or job failed, if it did
    std::string state;  // empty: there is none, or it is forgotten
  };
  Task<Result<std::vector<Run>>> last_runs(Schedule schedule, std::size_t limit);

  using Runs = std::array<std::uint64_t, kRunOutcomes>;  // since the start, by outcome
  const Runs& runs() const { return runs_; }

 private:
  void look();
  Task<void> run_due();
  Task<void> arm();
  Task<Status> fire(Schedule schedule, WallTime looked);
  Result<std::optional<ScheduledJobs::Found>> look_up(const Schedule& schedule,
                                                      const std::string& id);
  Task<Result<bool>> still_runs(const Schedule& schedule);
  enum class Turn : std::uint8_t { Planned, OutOfTurn };
  Task<Result<std::string>> submit(Schedule schedule, Turn turn);
  Task<Status> note(std::string id, ScheduleStore::Noted noted);
  WallTime now() const { return parts_.loop.clock().wall_now(); }

  Parts parts_;
  Pool& pool_;
  Gate gate_;
  TurnEnd look_;
  Timer due_;
  Runs runs_{};
  bool running_ = false;
  bool wanted_ = false;   // something changed while it ran
  bool trouble_ = false;  // what is due could not be run
  std::optional<WallTime> trouble_since_;
  std::optional<WallTime> many_since_;  // more were due than are read at once
  bool stopped_ = true;                 // until start()
};

}  // namespace mayfly
