#include "events/schedule_engine.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "core/reason.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kDueAtOnce = 64;
constexpr std::size_t kMostDue = 1'000'000;  // all
constexpr std::size_t kLongestRefusal = 1000;
// After a disk that failed.
constexpr Duration kTryAgain = 1s;
// The clock on the wall may be set: it is looked at no later than this.
constexpr Duration kLongestNap = 10min;

// That no later try would help.
bool is_final(const Error& error) {
  return error.reason == reason::kQueueFull || error.reason == reason::kConflict ||
         error.code == Code::DataLoss;
}

std::optional<WallTime> next_or_none(const Schedule& schedule, WallTime after) {
  auto next = next_run(schedule, after);
  if (next) return *next;
  LOG(error, "a schedule is paused: it has no next run", {"schedule", schedule.name},
      {"project", schedule.project}, {"error", next.error().message});
  return std::nullopt;
}

}  // namespace

ScheduleEngine::ScheduleEngine(Parts parts)
    : parts_(std::move(parts)),
      pool_(parts_.engine.pool()),
      gate_(parts_.loop),
      look_(parts_.loop, [this] { look(); }),
      due_(parts_.loop, [this] { look(); }) {}

Status ScheduleEngine::recover() {
  const WallTime at = now();
  for (const Schedule& schedule : TRY(parts_.schedules.due(at, kMostDue))) {
    const auto item = TRY(parts_.events.queue().find_key(lane_of(schedule), run_key(schedule)));
    if (!item) continue;
    TRY(parts_.schedules.note(schedule.id, {.run = {.planned = *schedule.next,
                                                    .at = item->spec.accepted,
                                                    .event = item->spec.id,
                                                    .reason = "",
                                                    .message = ""},
                                            .was = schedule.next,
                                            .next = next_or_none(schedule, *schedule.next)}));
  }
  return {};
}

void ScheduleEngine::start() {
  stopped_ = false;
  look_.request();
}

void ScheduleEngine::stop() {
  stopped_ = true;
  due_.cancel();
}

Task<void> ScheduleEngine::close() {
  stop();
  co_await gate_.close();
  due_.cancel();
}

// --- what clients do ---

Task<Result<Schedule>> ScheduleEngine::create(Schedule schedule, std::string payload) {
  const auto hold = gate_.hold();
  if (!hold) co_return refuse(reason::kDraining, "the node is shutting down");
  schedule.id = to_string(parts_.ids.next());
  schedule.created = now();
  CO_TRY_STATUS(co_await pool_.run([&]() -> Status {
    const WallTime next = TRY(next_run(schedule, schedule.created));
    if (!schedule.paused) schedule.next = next;
    return parts_.events.keep(payload, [&](const Digest& digest) {
      schedule.payload = digest;
      return parts_.schedules.add(schedule);
    });
  }));
  look_.request();
  co_return schedule;
}

Task<Result<std::vector<Schedule>>> ScheduleEngine::list(std::string project) {
  co_return co_await pool_.run([&] { return parts_.schedules.list(project); });
}

Task<Result<Schedule>> ScheduleEngine::find(std::string project, std::string name) {
  co_return co_await pool_.run([&] { return parts_.schedules.find(project, name); });
}

Task<Result<Schedule>> ScheduleEngine::remove(Schedule schedule) {
  CO_TRY(Schedule removed, co_await pool_.run([&] {
    return parts_.schedules.remove(schedule.project, schedule.name);
  }));
  const Status dropped = co_await pool_.run([&] { return parts_.events.drop(removed.payload); });
  if (!dropped)
    LOG(warn, "a schedule's payload stays until the next start",
        {"error", dropped.error().message});
  co_return removed;
}

Task<Result<Schedule>> ScheduleEngine::pause(Schedule schedule) {
  schedule.paused = true;
  schedule.next.reset();
  CO_TRY_STATUS(co_await pool_.run([&] { return parts_.schedules.set_next(schedule.id, {}); }));
  co_return schedule;
}

Task<Result<Schedule>> ScheduleEngine::resume(Schedule schedule) {
  if (!schedule.paused) co_return schedule;
  const WallTime at = now();
  CO_TRY_STATUS(co_await pool_.run([&]() -> Status {
    schedule.next = TRY(next_run(schedule, at));
    return parts_.schedules.set_next(schedule.id, schedule.next);
  }));
  schedule.paused = false;
  look_.request();
  co_return schedule;
}

Task<Result<WorkItem>> ScheduleEngine::run_now(Schedule schedule) {
  const WallTime at = now();
  CO_TRY(WorkItem item, co_await submit(schedule, ""));
  ScheduleStore::Noted noted{
      .run = {.planned = at, .at = at, .event = item.spec.id, .reason = "", .message = ""},
      .was = {},
      .next = {}};
  CO_TRY_STATUS(co_await note(schedule.id, std::move(noted)));
  co_return item;
}

// --- what is due ---

void ScheduleEngine::look() {
  wanted_ = true;
  if (running_ || stopped_ || gate_.closed()) return;
  running_ = true;
  parts_.loop.spawn(run_due());
}

Task<void> ScheduleEngine::run_due() {
  const auto hold = gate_.hold();
  trouble_ = false;
  while (std::exchange(wanted_, false) && !stopped_) {
    const WallTime at = now();
    auto due = co_await pool_.run([&] { return parts_.schedules.due(at, kDueAtOnce); });
    trouble_ = !due;
    if (!due) LOG(error, "schedules cannot be read", {"error", due.error().message});
    for (std::size_t i = 0; due && i < due->size() && !stopped_; ++i) {
      const Status fired = co_await fire((*due)[i]);
      if (fired) continue;
      trouble_ = true;
      LOG(error, "a schedule's run waits", {"schedule", (*due)[i].name},
          {"error", fired.error().message});
    }
    if (due && due->size() == kDueAtOnce && !trouble_) wanted_ = true;
  }
  if (!stopped_) co_await arm();
  running_ = false;
  if (wanted_) look_.request();
}

Task<void> ScheduleEngine::arm() {
  const auto next = co_await pool_.run([&] { return parts_.schedules.next_due(); });
  if (stopped_) co_return;
  if (!next || trouble_) {
    due_.arm_in(kTryAgain);
  } else if (*next) {
    due_.arm_in(std::clamp<Duration>(**next - now(), 0ns, kLongestNap));
  } else {
    due_.cancel();
  }
}

Task<Result<bool>> ScheduleEngine::still_runs(std::string event) {
  if (event.empty()) co_return false;
  CO_TRY(const std::optional<WorkItem> item,
         co_await pool_.run([&] { return parts_.events.queue().find(event); }));
  co_return item && !is_over(item->state);
}

Task<Result<WorkItem>> ScheduleEngine::submit(Schedule schedule, std::string key) {
  EventEngine::Submission submission = parts_.submission(schedule);
  submission.key = std::move(key);
  CO_TRY(submission.payload,
         co_await pool_.run([&] { return parts_.events.read(schedule.payload); }));
  CO_TRY(WorkQueue::Enqueued accepted, co_await parts_.engine.accept(std::move(submission)));
  co_return std::move(accepted.item);
}

Task<Status> ScheduleEngine::note(std::string id, ScheduleStore::Noted noted) {
  CO_TRY_STATUS(co_await pool_.run([&] { return parts_.schedules.note(id, noted); }));
  ++runs_[static_cast<std::size_t>(noted.run.outcome)];
  co_return Status{};
}

// An error: it is due as it was.
Task<Status> ScheduleEngine::fire(Schedule schedule) {
  const WallTime at = now();
  const WallTime planned = *schedule.next;
  // It may have been paused, deleted or run since it was found due.
  const auto found =
      co_await pool_.run([&] { return parts_.schedules.find(schedule.project, schedule.name); });
  if (!found && found.error().code != Code::NotFound) co_return std::unexpected(found.error());
  if (!found || found->id != schedule.id || found->next != schedule.next) co_return Status{};
  ScheduleRun run{.planned = planned, .at = at, .event = "", .reason = "", .message = ""};
  CO_TRY(const bool overlaps, co_await still_runs(schedule.event));
  if (schedule.missed == MissedRuns::Skip && at - planned > kOnTime) {
    run.outcome = RunOutcome::Missed;
  } else if (overlaps) {
    run.outcome = RunOutcome::Overlapping;
  } else {
    auto item = co_await submit(schedule, run_key(schedule));
    if (!item && !is_final(item.error())) co_return std::unexpected(std::move(item).error());
    run.outcome = item ? RunOutcome::Accepted : RunOutcome::Refused;
    if (item) {
      run.event = item->spec.id;
    } else {
      run.reason = item.error().reason.empty() ? reason::kInternal : item.error().reason;
      run.message = item.error().message.substr(0, kLongestRefusal);
    }
  }
  const auto next =
      co_await pool_.run([&] { return next_or_none(schedule, std::max(at, planned)); });
  ScheduleStore::Noted noted{.run = std::move(run), .was = planned, .next = next};
  co_return co_await note(schedule.id, std::move(noted));
}

}  // namespace mayfly
