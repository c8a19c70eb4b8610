// Runs schedules: when one is due, an event of its function is accepted, once for each time that
// was planned.
//
// The event bears a key made of the schedule and that time, and only then is the schedule moved on:
// a node that dies between the two finds the event at its next start. A run whose predecessor's
// event has not ended is passed over, so that slow ones never pile up.
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
  };

  explicit ScheduleEngine(Parts parts);

  // What a killed server left between a run's event and its note is made whole. Blocks; before the
  // engine runs, which would forget the event's key in time.
  Status recover();
  void start();
  void stop();
  Task<void> close();

  // `schedule` without id, payload, created and next. invalid_setting, conflict, quota_exceeded.
  Task<Result<Schedule>> create(Schedule schedule, std::string payload);
  Task<Result<std::vector<Schedule>>> list(std::string project);
  Task<Result<Schedule>> find(std::string project, std::string name);
  Task<Result<Schedule>> remove(Schedule schedule);
  Task<Result<Schedule>> pause(Schedule schedule);
  // From now on: what was planned meanwhile was not missed.
  Task<Result<Schedule>> resume(Schedule schedule);
  // Out of turn; its own time stays.
  Task<Result<WorkItem>> run_now(Schedule schedule);

  using Runs = std::array<std::uint64_t, kRunOutcomes>;  // since the start, by outcome
  const Runs& runs() const { return runs_; }

 private:
  void look();
  Task<void> run_due();
  Task<void> arm();
  Task<Status> fire(Schedule schedule);
  Task<Result<bool>> still_runs(std::string event);
  Task<Result<WorkItem>> submit(Schedule schedule, std::string key);
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
  bool stopped_ = true;   // until start()
};

}  // namespace mayfly
