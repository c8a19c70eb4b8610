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

// That no later try would help. Jobs are refused for what their function has become, too.
bool is_final(const Error& error, const ScheduleTarget& target) {
  if (target.is_job()) return error.code != Code::Unavailable && error.code != Code::Internal;
  return error.reason == reason::kQueueFull || error.reason == reason::kConflict ||
         error.code == Code::DataLoss;
}

// A run that was submitted and not noted.
struct Unnoted {
  std::string id;
  WallTime at{};
};

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
  const auto unnoted = [&](const Schedule& schedule) -> Result<std::optional<Unnoted>> {
    if (schedule.target.is_job()) {
      const std::string id = to_string(run_job_id(schedule));
      const auto job = TRY(parts_.jobs.find(id));
      if (!job) return std::nullopt;
      return Unnoted{.id = id, .at = job->submitted};
    }
    const auto item = TRY(parts_.events.queue().find_key(lane_of(schedule), run_key(schedule)));
    if (!item) return std::nullopt;
    return Unnoted{.id = item->spec.id, .at = item->spec.accepted};
  };
  for (const Schedule& schedule : TRY(parts_.schedules.due(at, kMostDue))) {
    const auto run = TRY(unnoted(schedule));
    if (!run) continue;
    TRY(parts_.schedules.note(schedule.id,
                              {.run = {.planned = *schedule.next,
                                       .at = run->at,
                                       .event = run->id,
                                       .reason = "",
                                       .message = ""},
                               .was = schedule.next,
                               .next = next_or_none(schedule, std::max(run->at, *schedule.next))}));
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
  if (removed.input) co_await pool_.run([&] { parts_.jobs.drop(*removed.input); });
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

Task<Result<std::string>> ScheduleEngine::run_now(Schedule schedule) {
  const WallTime at = now();
  CO_TRY(std::string id, co_await submit(schedule, Turn::OutOfTurn));
  ScheduleStore::Noted noted{
      .run = {.planned = at, .at = at, .event = id, .reason = "", .message = ""},
      .was = {},
      .next = {}};
  CO_TRY_STATUS(co_await note(schedule.id, std::move(noted)));
  co_return id;
}

Task<Result<std::vector<ScheduleEngine::Run>>> ScheduleEngine::last_runs(Schedule schedule,
                                                                         std::size_t limit) {
  co_return co_await pool_.run([&]() -> Result<std::vector<Run>> {
    std::vector<Run> runs;
    for (ScheduleRun& run : TRY(parts_.schedules.runs(schedule.id, limit))) {
      Run shown{.run = std::move(run), .state = ""};
      if (!shown.run.event.empty()) {
        if (const auto found = TRY(look_up(schedule, shown.run.event))) {
          shown.state = found->state;
          shown.run.reason = found->reason;
          shown.run.message = found->message;
        }
      }
      runs.push_back(std::move(shown));
    }
    return runs;
  });
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
    // What a failing disk, or those before it, made late was not missed.
    const WallTime looked = std::min(at, trouble_since_.value_or(many_since_.value_or(at)));
    auto due = co_await pool_.run([&] { return parts_.schedules.due(at, kDueAtOnce); });
    trouble_ = !due;
    if (!due) LOG(error, "schedules cannot be read", {"error", due.error().message});
    for (std::size_t i = 0; due && i < due->size() && !stopped_; ++i) {
      const Status fired = co_await fire((*due)[i], looked);
      if (fired) continue;
      trouble_ = true;
      LOG(error, "a schedule's run waits", {"schedule", (*due)[i].name},
          {"error", fired.error().message});
    }
    trouble_since_ = trouble_ ? std::optional(looked) : std::nullopt;
    const bool more = due && due->size() == kDueAtOnce && !trouble_;
    many_since_ = more ? std::optional(looked) : std::nullopt;
    if (more) wanted_ = true;
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

// An event or a job of the schedule. Blocks.
Result<std::optional<ScheduledJobs::Found>> ScheduleEngine::look_up(const Schedule& schedule,
                                                                    const std::string& id) {
  if (schedule.target.is_job()) return parts_.jobs.find(id);
  const auto item = TRY(parts_.events.queue().find(id));
  if (!item) return std::nullopt;
  return ScheduledJobs::Found{.submitted = item->spec.accepted,
                              .over = is_over(item->state),
                              .state = std::string(to_string(item->state)),
                              .reason = item->reason,
                              .message = item->message};
}

Task<Result<bool>> ScheduleEngine::still_runs(const Schedule& schedule) {
  if (schedule.event.empty() || schedule.overlap == OverlappingRuns::Allow) co_return false;
  CO_TRY(const auto found, co_await pool_.run([&] { return look_up(schedule, schedule.event); }));
  co_return found && !found->over;
}

Task<Result<std::string>> ScheduleEngine::submit(Schedule schedule, Turn turn) {
  CO_TRY(std::string payload,
         co_await pool_.run([&] { return parts_.events.read(schedule.payload); }));
  if (schedule.target.is_job()) {
    std::string id = to_string(turn == Turn::Planned ? run_job_id(schedule) : parts_.ids.next());
    CO_TRY_STATUS(co_await parts_.jobs.submit(std::move(schedule), id, std::move(payload)));
    co_return id;
  }
  EventEngine::Submission submission = parts_.submission(schedule);
  if (turn == Turn::Planned) submission.key = run_key(schedule);
  submission.payload = std::move(payload);
  CO_TRY(WorkQueue::Enqueued accepted, co_await parts_.engine.accept(std::move(submission)));
  co_return std::move(accepted.item.spec.id);
}

Task<Status> ScheduleEngine::note(std::string id, ScheduleStore::Noted noted) {
  CO_TRY_STATUS(co_await pool_.run([&] { return parts_.schedules.note(id, noted); }));
  ++runs_[static_cast<std::size_t>(noted.run.outcome)];
  co_return Status{};
}

// `looked`: when it was first tried to run what is due. An error: it is due as it was.
Task<Status> ScheduleEngine::fire(Schedule schedule, WallTime looked) {
  const WallTime at = now();
  const WallTime planned = *schedule.next;
  // It may have been paused, deleted or run since it was found due.
  const auto found =
      co_await pool_.run([&] { return parts_.schedules.find(schedule.project, schedule.name); });
  if (!found && found.error().code != Code::NotFound) co_return std::unexpected(found.error());
  if (!found || found->id != schedule.id || found->next != schedule.next) co_return Status{};
  ScheduleRun run{.planned = planned, .at = at, .event = "", .reason = "", .message = ""};
  CO_TRY(const bool overlaps, co_await still_runs(schedule));
  if (schedule.missed == MissedRuns::Skip && looked - planned > kOnTime) {
    run.outcome = RunOutcome::Missed;
  } else if (overlaps) {
    run.outcome = RunOutcome::Overlapping;
  } else {
    auto made = co_await submit(schedule, Turn::Planned);
    if (!made && !is_final(made.error(), schedule.target))
      co_return std::unexpected(std::move(made).error());
    run.outcome = made ? RunOutcome::Accepted : RunOutcome::Refused;
    if (made) {
      run.event = *std::move(made);
    } else {
      run.reason = made.error().reason.empty() ? reason::kInternal : made.error().reason;
      run.message = made.error().message.substr(0, kLongestRefusal);
    }
  }
  const auto next =
      co_await pool_.run([&] { return next_or_none(schedule, std::max(at, planned)); });
  ScheduleStore::Noted noted{.run = std::move(run), .was = planned, .next = next};
  co_return co_await note(schedule.id, std::move(noted));
}

}  // namespace mayfly
