#include "jobs/job_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "async/sleep.h"
#include "base/log.h"
#include "core/caller_reason.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/store_reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kAfterTrouble = 1s;
constexpr Duration kLongestWait = 1min;
constexpr Duration kPlatformPause = 30s;
constexpr Duration kLookAgain = 1s;

SliceFate meant_fate(const SliceOutcome& outcome, bool killed) {
  if (outcome.result) return SliceFate::Checkpoint;
  return killed || outcome.put_back ? SliceFate::PutBack : SliceFate::Failed;
}

// What became of a job by a slice that was `meant` to end so.
SliceFate fate_of(const Result<JobRecord>& ended, SliceFate meant) {
  if (!ended) return SliceFate::Lost;
  if (ended->state == JobState::Done) return SliceFate::Done;
  return ended->state == JobState::Failed ? SliceFate::Failed : meant;
}

}  // namespace

JobEngine::JobEngine(Parts parts, Options options)
    : parts_(std::move(parts)),
      options_(options),
      pool_(parts_.loop, "jobs", 2),
      gate_(parts_.loop),
      look_(parts_.loop, [this] { look(); }),
      again_(parts_.loop, [this] { look(); }) {}

Status JobEngine::recover() {
  const std::uint64_t cut_off = TRY(parts_.store.recover());
  if (cut_off > 0)
    LOG(info, "jobs go on from their last checkpoints", {"jobs", std::to_string(cut_off)});
  return {};
}

void JobEngine::start() {
  stopped_ = false;
  parts_.loop.spawn(sweep_now_and_then());
  look_.request();
}

Task<void> JobEngine::close() {
  stopped_ = true;
  auto closed = gate_.close();
  again_.cancel();
  closing_.cancel();
  for (const auto& [id, running] : running_) running->kill.cancel();
  co_await closed;
}

Bytes JobEngine::memory_left() const {
  Bytes used{};
  for (const auto& [id, running] : running_) used = used + running->memory;
  return used < options_.memory ? options_.memory - used : Bytes{};
}

std::uint32_t JobEngine::cpus_left() const {
  std::uint32_t used = 0;
  for (const auto& [id, running] : running_) used += running->cpus;
  return used < options_.cpus ? options_.cpus - used : 0;
}

Task<Result<JobRecord>> JobEngine::submit(JobSubmission job, std::vector<JobFile> inputs) {
  const auto hold = gate_.hold();
  if (!hold) co_return refuse(reason::kDraining, "the node is shutting down");
  if (job.memory > options_.memory) {
    co_return refuse(
        reason::kTooLarge,
        fmt::format("a slice of this job may take {}, and this node gives all jobs together {} "
                    "(jobs.memory): it can never run here",
                    to_string(job.memory), to_string(options_.memory)));
  }
  const bool jailed = job.cpus > 0 || job.memory > Bytes{};
  if (jailed) job.cpus = std::clamp<std::uint32_t>(job.cpus, 1, std::max(options_.cpus, 1U));
  const JobStore::Limits limits{.open = options_.max_open,
                                .bytes = parts_.byte_limit(project_of(job.function))};
  CO_TRY_STATUS(co_await pool_.run([&] { return parts_.store.submit(job, inputs, limits); }));
  look_.request();
  co_return co_await find(job.id);
}

Task<Result<JobRecord>> JobEngine::cancel(std::string id) {
  CO_TRY(JobRecord job, co_await pool_.run([&] { return parts_.store.cancel(id, now()); }));
  for_each_running(id, [](Running& running) { running.kill.cancel(); });
  tell_of_end();
  look_.request();  // at who waits
  co_return job;
}

Task<Result<JobRecord>> JobEngine::pause(std::string id) {
  CO_TRY(JobRecord job, co_await pool_.run([&] { return parts_.store.pause(id); }));
  for_each_running(id, [](Running& running) { running.stop.cancel(); });
  look_.request();
  co_return with_progress(std::move(job));
}

Task<Result<JobRecord>> JobEngine::resume(std::string id) {
  CO_TRY(JobRecord job, co_await pool_.run([&] { return parts_.store.resume(id); }));
  look_.request();
  co_return with_progress(std::move(job));
}

void JobEngine::for_each_running(std::string_view id, const std::function<void(Running&)>& act) {
  for (const auto& [running, slice] : running_)
    if (running == id || slice->parent == id) act(*slice);
}

void JobEngine::tell_of_end() {
  ++ends_;
  for (Promise<void>& watcher : std::exchange(watchers_, {})) watcher.set();
}

Task<void> JobEngine::next_end(std::uint64_t seen, CancelToken cancel) {
  if (seen != ends_) co_return;
  Future<void> ended(parts_.loop);
  std::erase_if(watchers_, [](const Promise<void>& watcher) { return !watcher.wanted(); });
  watchers_.push_back(ended.promise());
  const auto give_up = [&ended] {
    ended.cancel({.code = Code::Cancelled, .message = "nothing ended"});
  };
  Timer late(parts_.loop, give_up);
  late.arm_in(kLookAgain);
  const CancelCallback cancelled(cancel, give_up);
  (void)co_await ended;
}

// What a running job said last is not written before its next checkpoint.
JobRecord JobEngine::with_progress(JobRecord job) const {
  const auto running = running_.find(job.spec.id);
  if (running == running_.end() || running->second->lease.epoch != job.epoch) return job;
  job.progress = running->second->progress;
  job.ran += parts_.loop.clock().now() - running->second->began;
  return job;
}

Task<Result<JobRecord>> JobEngine::find(std::string id) {
  CO_TRY(std::optional<JobRecord> job, co_await pool_.run([&] { return parts_.store.find(id); }));
  if (!job)
    co_return refuse(reason::kNotFound, fmt::format("there is no job '{}'", id.substr(0, 64)));
  co_return with_progress(*std::move(job));
}

Task<Result<std::vector<JobRecord>>> JobEngine::list(JobStore::ListAsk ask) {
  CO_TRY(std::vector<JobRecord> jobs, co_await pool_.run([&] { return parts_.store.list(ask); }));
  for (JobRecord& job : jobs) job = with_progress(std::move(job));
  co_return jobs;
}

Task<Result<std::vector<JobFile>>> JobEngine::files(std::string id) {
  co_return co_await pool_.run([&] { return parts_.store.files(id); });
}

Task<std::string> JobEngine::metrics() {
  const auto kept = co_await pool_.run([&] { return parts_.store.overview(); });
  co_return metrics_.expose(kept ? std::optional(*kept) : std::nullopt);
}

Task<Result<Bytes>> JobEngine::bytes_of(std::string project) {
  co_return co_await pool_.run([&] { return parts_.store.bytes_of(project); });
}

void JobEngine::look() {
  wanted_ = true;
  if (feeding_ || stopped_ || gate_.closed()) return;
  feeding_ = true;
  parts_.loop.spawn(feed());
}

Task<void> JobEngine::feed() {
  const auto hold = gate_.hold();
  while (std::exchange(wanted_, false) && !stopped_) {
    bool leased = true;
    while (leased && !stopped_) leased = co_await lease_one();
  }
  if (!stopped_) co_await arm();
  feeding_ = false;
  if (wanted_) look_.request();
}

Task<bool> JobEngine::lease_one() {
  // What has no jail may run where there is room for none.
  const bool room = cpus_left() > 0 && parts_.has_memory();
  const JobStore::LeaseAsk ask{.now = now(),
                               .after_project = last_project_,
                               .memory = room ? memory_left() : Bytes{},
                               .cpus = room ? cpus_left() : 0};
  auto leased = co_await pool_.run([&] { return parts_.store.lease(ask); });
  if (!leased) LOG(error, "no job can be leased", {"error", leased.error().message});
  if (gate_.closed()) co_return false;  // recover() puts it back
  if (!leased || !*leased) co_return false;
  JobRecord job = **std::move(leased);
  last_project_ = project_of(job.spec.function);
  parts_.loop.spawn(work(std::move(job)));
  co_return true;
}

// What is due but was not leased waits for the end of a slice, or for memory.
Task<void> JobEngine::arm() {
  const JobStore::LeaseAsk most{
      .now = now(), .after_project = "", .memory = options_.memory, .cpus = options_.cpus};
  const auto due = co_await pool_.run([&] { return parts_.store.next_due(most); });
  next_due_ = due ? *due : std::nullopt;
  if (due && !*due) co_return;
  const Duration wait = due ? **due - now() : Duration::zero();
  again_.arm_in(std::clamp<Duration>(wait, kAfterTrouble, kLongestWait));
}

Task<void> JobEngine::sweep_now_and_then() {
  const auto hold = gate_.hold();
  const Status cleaned = co_await pool_.run([&] { return parts_.store.remove_orphans(); });
  if (!cleaned) LOG(warn, "orphans of jobs stay", {"error", cleaned.error().message});
  do {
    const auto expired = co_await pool_.run([&] { return parts_.store.sweep(now()); });
    if (!expired) {
      LOG(error, "jobs cannot be swept", {"error", expired.error().message});
      continue;
    }
    for (const std::string& id : *expired)
      for_each_running(id, [](Running& running) { running.kill.cancel(); });
    if (expired->empty()) continue;
    tell_of_end();
    look_.request();
  } while (co_await sleep_for(parts_.loop, options_.sweep_every, closing_.token()));
}

// While slices run: when requests need their memory, the youngest stops at its next checkpoint.
Task<void> JobEngine::watch_memory() {
  const auto hold = gate_.hold();
  while (!running_.empty() &&
         co_await sleep_for(parts_.loop, options_.look_every, closing_.token())) {
    if (parts_.has_memory()) continue;
    const auto youngest =
        std::ranges::find_if(running_.rbegin(), running_.rend(), [](const auto& running) {
          return running.second->memory > Bytes{} && !running.second->stop.cancelled();
        });
    if (youngest != running_.rend()) youngest->second->stop.cancel();
  }
  watching_ = false;
}

Task<void> JobEngine::work(JobRecord job) {
  const auto hold = gate_.hold();
  Running running{.lease = lease_of(job),
                  .began = parts_.loop.clock().now(),
                  .parent = job.spec.parent,
                  .memory = job.spec.memory,
                  .cpus = job.spec.cpus,
                  .progress = job.progress,
                  .due = {},
                  .stop = {},
                  .kill = {},
                  .kept_at = {}};
  Running*& place = running_[job.spec.id];
  // A slice whose lease was lost: what it does counts no longer.
  if (place != nullptr) place->kill.cancel();
  place = &running;
  if (stopped_) running.kill.cancel();
  if (!std::exchange(watching_, true)) parts_.loop.spawn(watch_memory());
  Status ended = co_await run_slice(job, running);
  while (!ended && ended.error().reason != reason::kConflict) {
    LOG(error, "the end of a slice cannot be written", {"job", job.spec.id},
        {"error", ended.error().message});
    if (!co_await sleep_for(parts_.loop, kAfterTrouble, closing_.token())) break;
    const auto back =
        co_await pool_.run([&] { return parts_.store.put_back(running.lease, now(), {}); });
    ended = back ? Status{} : Status(std::unexpected(back.error()));
  }
  const auto mine = running_.find(job.spec.id);
  if (mine != running_.end() && mine->second == &running) running_.erase(mine);
  look_.request();
}

Task<Status> JobEngine::run_slice(const JobRecord& job, Running& running) {
  CO_TRY(const std::vector<JobFile> files,
         co_await pool_.run([&] { return parts_.store.files(job.spec.id); }));
  Timer slice(parts_.loop, [this, &job, &running, &slice] {
    if (goes_on(job, running)) return slice.arm_in(options_.look_every);
    running.due.cancel();
  });
  slice.arm_in(options_.slice);
  const TimePoint begun = parts_.loop.clock().now();
  const WallTime began = now();
  SliceOutcome outcome = co_await parts_.run(
      {.job = job,
       .files = files,
       .due = running.due.token(),
       .stop = running.stop.token(),
       .kill = running.kill.token(),
       .on_progress = [&running](JobProgress progress) { running.progress = std::move(progress); },
       .keep =
           [this, &job, &running](std::string checkpoint, std::vector<JobFile> made) {
             return keep(job, running, std::move(checkpoint), std::move(made));
           }});
  slice.cancel();
  if (outcome.result && outcome.result->finished) running.progress.fraction = 1;
  const JobStore::Spent spent{
      .progress = running.progress, .cpu = outcome.cpu, .ran = parts_.loop.clock().now() - begun};
  // Not what its owner cancelled.
  const bool ended_by_platform =
      !outcome.result && running.kill.cancelled() && closing_.cancelled();
  co_await parts_.bill(job,
                       {.began = began,
                        .ran = spent.ran,
                        .cpu = outcome.cpu,
                        .memory = outcome.memory,
                        .reason = outcome.result ? "" : std::string(outcome.result.error().reason),
                        .billed = !ended_by_platform});
  co_return co_await end(job, running, std::move(outcome), spent);
}

// A fresh process costs what reading the rows and the checkpoint does, and buys nothing where
// nobody waits for its turn. What keeps no checkpoints would lose its work with the node.
bool JobEngine::goes_on(const JobRecord& job, const Running& running) const {
  const TimePoint at = parts_.loop.clock().now();
  // A trial keeps some as soon as it is as far as it was, which may take longer than a slice.
  const bool keeps = job.spec.kind == JobKind::Trial ||
                     (running.kept_at && at - *running.kept_at < options_.slice);
  const bool others_wait = next_due_ && *next_due_ <= now();
  const Duration ran = at - running.began;
  return keeps && !others_wait && ran < options_.longest_slice;
}

Task<Status> JobEngine::keep(const JobRecord& job, Running& running, std::string checkpoint,
                             std::vector<JobFile> files) {
  // What it says meanwhile is another's.
  const JobProgress progress = running.progress;
  const Bytes limit = parts_.byte_limit(project_of(job.spec.function));
  Status kept = co_await pool_.run(
      [&] { return parts_.store.keep(running.lease, checkpoint, files, progress, limit); });
  // Somebody else has it, or it is over: what this slice does counts no longer.
  if (!kept && kept.error().reason == reason::kConflict) running.kill.cancel();
  if (kept) running.kept_at = parts_.loop.clock().now();
  co_return kept;
}

// Whether it goes on from its last checkpoint, and when. Blocking.
Result<JobRecord> JobEngine::note_failure(const JobRecord& job, const JobLease& lease,
                                          const SliceOutcome& outcome, bool killed,
                                          const JobStore::Spent& spent) {
  JobStore& store = parts_.store;
  if (killed) return store.put_back(lease, now(), spent);
  if (outcome.put_back) return store.put_back(lease, now() + kPlatformPause, spent);
  // It may have got further meanwhile.
  const auto latest = TRY(store.find(job.spec.id));
  const std::uint32_t failures = (latest ? latest->failures : job.failures) + 1;
  if (!outcome.retry || failures >= options_.max_failures)
    return store.give_up(lease, now(), outcome.result.error(), spent);
  const Duration wait = wait_after(options_.retries, failures, parts_.rng.next());
  return store.retry(lease, now() + wait, outcome.result.error(), spent);
}

Task<Status> JobEngine::end(const JobRecord& job, const Running& running, SliceOutcome outcome,
                            JobStore::Spent spent) {
  JobStore& store = parts_.store;
  const JobLease& lease = running.lease;
  // Whoever killed it knows why: the node stops, or the job was cancelled and its lease is lost.
  const bool killed = running.kill.cancelled();
  if (!outcome.result && outcome.result.error().reason == reason::kStoreUnavailable)
    outcome.put_back = true;  // not the job's fault, however often
  const SliceFate meant = meant_fate(outcome, killed);
  const Bytes limit = parts_.byte_limit(project_of(job.spec.function));
  Result<JobRecord> ended = co_await pool_.run([&]() -> Result<JobRecord> {
    if (!outcome.result) return note_failure(job, lease, outcome, killed, spent);
    auto moved = store.advance(lease, now(), *std::move(outcome.result), spent, limit);
    if (moved || moved.error().reason != reason::kQuotaExceeded) return moved;
    return store.give_up(lease, now(), moved.error(), spent);
  });
  metrics_.slice(job.spec.kind, {.end = fate_of(ended, meant),
                                 .ran = spent.ran,
                                 .cpu = spent.cpu,
                                 .rows = outcome.rows,
                                 .failed_rows = outcome.failed_rows});
  if (ended && is_over(ended->state)) {
    for_each_running(job.spec.id, [&](Running& of_job) {
      if (&of_job != &running) of_job.kill.cancel();
    });
    tell_of_end();
  }
  if (ended) {
    LOG(info, "slice ended", {"job", job.spec.id}, {"state", to_string(ended->state)},
        {"reason", ended->reason});
  }
  co_return ended ? Status{} : Status(std::unexpected(std::move(ended).error()));
}

}  // namespace mayfly
