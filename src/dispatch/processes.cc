// What the scheduler does with templates and instances: starting, handing over, ending.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "core/reason.h"
#include "core/units.h"
#include "dispatch/scheduler.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// Of a version that has never answered: what its first calls are charged in advance.
constexpr Duration kUnknownRun = 10ms;
// Reading an instance's peak memory is a system call or two; a peak this old is good enough.
constexpr Duration kSampleInterval = 100ms;

// How long an instance may take to ring for the last reply of a burst after having written it.
constexpr Duration kLastRing = 100ms;

// For what a misbehaving instance claims to have begun beside the request that it spoiled.
Error bad_peer(const VersionPool& pool) {
  return refuse(reason::kBadReply, fmt::format("{}: the instance was ended for a malformed message",
                                               pool.runtime->label))
      .error();
}

std::string describe(const Exit& exit) {
  if (exit.oom) return "exceeded its memory limit";
  if (exit.signal != 0) return fmt::format("was killed by signal {}", exit.signal);
  return fmt::format("exited with code {}", exit.code);
}

}  // namespace

// ---- Templates ----------------------------------------------------------------------------------

void Scheduler::begin_build(VersionPool& pool) {
  pool.tmpl.state = TemplateState::Building;
  pool.tmpl.build = ++builds_made_;
  pool.tmpl.begun = now_;
  pool.tmpl.forks = 0;
  if (pool.runtime->rank == Rank::Caller) ++builds_;
  charge(pool, pool.tmpl.charged, pool.tmpl.bytes);
  loop_.spawn(build(pool.runtime, pool.tmpl.build));
}

// Finding the compiled folder may take long (it is rebuilt when it was lost), so the version may be
// gone, or another build under way, when it is there.
Task<void> Scheduler::build(std::shared_ptr<const VersionRuntime> runtime, std::uint64_t number) {
  const std::optional<Gate::Hold> hold = processes_.hold();
  CHECK(hold.has_value());
  Result<Path> artifact = co_await runtime->artifact();
  Result<Secrets> secrets = Secrets();
  if (artifact && runtime->secrets) secrets = co_await runtime->secrets();
  VersionPool* pool = find(runtime->key);
  if (pool == nullptr || pool->tmpl.build != number) co_return;
  tick();
  if (!artifact) {
    start_failed(*pool, std::move(artifact).error().in("its compiled form"));
  } else if (!secrets) {
    start_failed(*pool, std::move(secrets).error());
  } else {
    start_template(*pool, *std::move(artifact), *std::move(secrets));
  }
  run();
}

TemplateEvents Scheduler::template_events(VersionPool& pool) {
  // What an earlier one still says is not about the one that is built now.
  const std::uint64_t build = pool.tmpl.build;
  return {.on_ready =
              [this, &pool, build](Result<TemplateReady> ready) {
                if (pool.tmpl.build == build) template_ready(pool, std::move(ready));
              },
          .on_lost =
              [this, &pool, build](Exit exit) {
                if (pool.tmpl.build == build) template_lost(pool, exit);
              }};
}

void Scheduler::template_ready(VersionPool& pool, Result<TemplateReady> ready) {
  tick();
  if (pool.tmpl.state != TemplateState::Building) return;
  if (ready) {
    if (pool.runtime->rank == Rank::Caller) --builds_;
    build_freed_ = true;
    pool.tmpl.state = TemplateState::Ready;
    pool.tmpl.ready = now_;
    pool.tmpl.build_time = ready->build;
    // It is not warm yet: what was measured when it was published may be more.
    if (ready->private_bytes.count != 0)
      pool.tmpl.bytes = std::max(pool.runtime->template_bytes, ready->private_bytes);
    charge(pool, pool.tmpl.charged, pool.tmpl.bytes);
    pool.last_used = now_;
    use_environment(pool);
    answer_warming(pool, {});
    contend(pool);
    touch(pool);
  } else if (pool.tmpl.source == TemplateSource::Environment &&
             ready.error().code == Code::Aborted) {
    start_without_environment(pool, ready.error());
  } else {
    start_failed(pool, std::move(ready).error());
  }
  run();
}

// A template that had given an instance before it died is simply built again when one is wanted;
// one that died before that is a failed start.
void Scheduler::template_lost(VersionPool& pool, Exit exit) {
  tick();
  if (pool.tmpl.state != TemplateState::Ready) return;
  LOG(warn, "template lost", {"version", pool.runtime->label}, {"how", describe(exit)});
  if (pool.tmpl.forks > 0) {
    end_template(pool, Why::TemplateLost);
    contend(pool);
  } else {
    start_failed(pool, Error{.code = Code::Unavailable,
                             .message = fmt::format("its template {}", describe(exit))});
  }
  run();
}

void Scheduler::end_template(VersionPool& pool, Why why) {
  if (pool.tmpl.state == TemplateState::None || pool.tmpl.state == TemplateState::BackingOff) {
    return;
  }
  record(pool, Action::EvictTemplate, why);
  if (pool.tmpl.state == TemplateState::Building) {
    if (pool.runtime->rank == Rank::Caller) --builds_;
    build_freed_ = true;
  }
  pool.tmpl.state = TemplateState::None;
  pool.tmpl.build = 0;
  charge(pool, pool.tmpl.charged, Bytes{});
  bury(std::move(pool.tmpl.process));
  touch(pool);
}

// Requests that other instances of the version can still serve go on waiting for them.
void Scheduler::start_failed(VersionPool& pool, Error cause) {
  end_template(pool, Why::StartFailed);
  TemplateSlot& slot = pool.tmpl;
  if (slot.state != TemplateState::BackingOff) {
    slot.state = TemplateState::BackingOff;
    ++slot.failures;
    slot.retry = now_ + back_off(slot.failures);
    LOG(warn, "cannot start", {"version", pool.runtime->label}, {"cause", cause.message},
        {"failures", slot.failures}, {"retry_in", to_string(slot.retry - now_)});
  }
  slot.cause = std::move(cause);
  answer_warming(pool, std::unexpected(start_refused(pool).error));
  if (pool.live() == 0) fail_queue(pool, start_refused(pool));
  touch(pool);
}

// ---- Instances ----------------------------------------------------------------------------------

void Scheduler::fork(VersionPool& pool) {
  std::optional<Gate::Hold> stay = processes_.hold();
  CHECK(stay.has_value());
  const std::uint64_t id = ++workers_made_;
  auto made = std::make_unique<Worker>(loop_, pool, id, *std::move(stay),
                                       [this](Worker& slow) { instance_slow(slow); });
  Worker& worker = *made;
  Request* request = pool.queued > 0 ? &take_from_queue(pool.queue.front()) : nullptr;
  auto instance = pool.tmpl.process->fork(events_of(worker));
  if (!instance && instance.error().code == Code::Unavailable && pool.tmpl.forks > 0) {
    // It worked and has died, which will be told soon: another is built for those that wait.
    end_template(pool, Why::TemplateLost);
    if (request != nullptr) put_back(*request);
    return contend(pool);
  }
  if (!instance) {
    start_failed(pool, std::move(instance).error());
    if (request == nullptr) return;
    Refusal refused = start_refused(pool);
    return finish(*request, std::unexpected(std::move(refused.error)), refused.retry_after);
  }
  ++pool.tmpl.forks;
  worker.instance = *std::move(instance);
  worker.index = pool.workers.size();
  pool.workers.push_back(std::move(made));
  ++pool.starting;
  ++pool.function.busy;
  charge(pool, worker.charged, pool.instance_bytes);
  take_tokens(worker);
  if (request == nullptr) return;
  request->tier = StartTier::Template;
  if (request->found_template != pool.tmpl.build) {
    // The wait for the template belongs to the start, the wait for a core before and after to the
    // queue.
    const bool environment = pool.tmpl.source == TemplateSource::Environment;
    request->tier = environment ? StartTier::Environment : StartTier::Cold;
    const TimePoint begun = std::max(request->accepted, pool.tmpl.begun);
    request->timing.start = pool.tmpl.ready - begun;
    request->timing.queue -= request->timing.start;
  }
  hold(*request, worker);
  worker.instance->run(std::move(request->call.request));
}

InstanceEvents Scheduler::events_of(Worker& worker) {
  return {.on_started = [this, &worker] { instance_started(worker); },
          .on_replies =
              [this, &worker](Replies replies) { instance_replied(worker, std::move(replies)); },
          .on_chunk = [this, &worker](Reply chunk) { chunk_arrived(worker, std::move(chunk)); },
          .on_call = [this, &worker](PlacedCall call) { instance_called(worker, std::move(call)); },
          .on_exit = [this, &worker](Exit exit) { instance_exited(worker, exit); }};
}

void Scheduler::hold(Request& request, Worker& worker) {
  request.state = Request::State::Held;
  request.worker = &worker;
  request.instance = worker.id;
  request.handed = now_;
  worker.requests.push_back(&request);
}

void Scheduler::hand_over(Request& request, Worker& worker) {
  leave_idle(worker);
  set_state(worker, WorkerState::Running);
  take_tokens(worker);
  give(request, worker);
}

// Adds it to the burst or the batch that the instance gets in this turn.
void Scheduler::join(Request& request, Worker& worker) {
  const bool batch = worker.gathering == Worker::Gathering::Open;
  record(worker.pool, Action::Dispatch, batch ? Why::JoinsBatch : Why::JoinsBurst);
  if (worker.requests.size() == 1 && !batch) worker.slow.arm(now_ + kSlowBurst);
  const Duration expected = worker.pool.mean_run * worker.tokens;
  worker.estimate += expected;
  share_.begin(worker.pool.function.share, expected);
  give(request, worker);
}

void Scheduler::give(Request& request, Worker& worker) {
  request.tier = StartTier::Hot;
  request.timing.queue = now_ - request.accepted;
  request.runs = now_;
  hold(request, worker);
  worker.pool.last_given = &worker;
  if (gathers(request, worker.pool)) return gather(request, worker);
  worker.instance->run(std::move(request.call.request));
}

// Where it was taken from: it waits again, before everybody else.
void Scheduler::put_back(Request& request) {
  VersionPool& pool = *request.pool;
  request.state = Request::State::Queued;
  request.worker = nullptr;
  request.runs.reset();
  if (pool.tmpl.state == TemplateState::Ready) request.found_template = pool.tmpl.build;
  pool.queue.push_front(request);
  ++pool.queued;
  ++pool.function.queued;
  pool.queued_rows += request.rows;
  pool.callees += request.call.caller ? 1 : 0;
}

// Leaves it the request that it has begun, if any; the others wait again, before everybody else.
void Scheduler::disband(Worker& worker) {
  if (worker.requests.size() < 2) return;
  settle(worker, worker.instance->collect());
  take_unbegun(worker);
  if (worker.requests.empty()) worker.slow.arm(now_ + kLastRing);
}

void Scheduler::take_unbegun(Worker& worker) {
  std::vector<RequestMemory> back = worker.instance->take_back();
  for (; !back.empty(); back.pop_back()) {
    Request& request = *worker.requests.back();
    worker.requests.pop_back();
    request.worker = nullptr;
    request.call.request = std::move(back.back());
    put_back(request);
  }
  touch(worker.pool);
  contend(worker.pool);
}

// The burst takes longer than it should: nobody waits for the request that holds it up.
void Scheduler::instance_slow(Worker& worker) {
  tick();
  if (worker.state != WorkerState::Running) return;
  if (worker.requests.empty()) end(worker, Why::BadReply);
  disband(worker);
  run();
}

void Scheduler::instance_started(Worker& worker) {
  tick();
  if (worker.state != WorkerState::Starting) return;
  VersionPool& pool = worker.pool;
  if (pool.tmpl.state != TemplateState::BackingOff) {
    pool.tmpl.failures = 0;
    pool.tmpl.cause.reset();
  }
  // Building a session is starting, which nobody pays for. What a plain fork uses, some 0.1 ms, is
  // not worth the risk of reading the clock after a short run instead of before it.
  if (pool.runtime->session_after_fork) worker.cpu_seen = worker.instance->cpu();
  if (!worker.requests.empty()) {
    Request& request = *worker.requests.front();
    request.runs = now_;
    request.timing.start += now_ - request.handed;
    set_state(worker, WorkerState::Running);
    return;
  }
  release_tokens(worker);
  if (worker.afterwards == Afterwards::End) {
    end(worker, Why::Asked);
  } else {
    make_idle(worker);
  }
  run();
}

void Scheduler::instance_replied(Worker& worker, Replies replies) {
  tick();
  if (worker.state != WorkerState::Running) return;  // given up while the replies were under way
  const bool batch = worker.gathering == Worker::Gathering::Sealed;
  const bool malformed = std::ranges::any_of(replies, [](const Result<Reply>& reply) {
    return !reply && reply.error().reason == reason::kBadReply;
  });
  if (batch && !replies.empty()) {
    settle_batch(worker, std::move(replies.front()));
  } else {
    settle(worker, std::move(replies));
  }
  if (malformed) {
    take_unbegun(worker);  // also a single one: it did nothing wrong
    end(worker, Why::BadReply);
    fail_held(worker, bad_peer(worker.pool));
  } else {
    release_tokens(worker);
    if (worker.pool.runtime->isolation == Isolation::Request) {
      end(worker, Why::FreshPerRequest);
    } else if (worker.afterwards == Afterwards::End) {
      end(worker, Why::Asked);
    } else {
      make_idle(worker);
    }
  }
  run();
}

// Replies to the oldest requests of the instance. Those that were handed over together share the
// time they took and the processor time they used equally.
void Scheduler::settle(Worker& worker, Replies replies) {
  if (replies.empty()) return;
  CHECK(replies.size() <= worker.requests.size());
  sample(worker);
  const auto count = static_cast<std::int64_t>(replies.size());
  const Duration cpu = unbilled(worker) / count;
  const Duration ran = (now_ - worker.requests.front()->runs.value_or(now_)) / count;
  std::int64_t rows = 0;
  for (Result<Reply>& reply : replies) {
    Request& request = *worker.requests.front();
    rows += static_cast<std::int64_t>(std::clamp<std::uint64_t>(request.rows, 1, kLargestBatch));
    release(request, worker, ran, cpu);
    finish(request, std::move(reply));
  }
  for (Request* request : worker.requests) request->runs = now_;
  const bool loaded = count > 1 || worker.pool.queued > 0;
  worker.pool.tuner.ran_alone(ran * count / rows,
                              loaded ? BatchTuner::Load::Heavy : BatchTuner::Load::Light);
  follow(worker.pool.mean_run, ran);
}

void Scheduler::instance_exited(Worker& worker, Exit exit) {
  tick();
  VersionPool& pool = worker.pool;
  const WorkerState was = worker.state;
  if (was != WorkerState::Ending) {
    sample(worker);
    if (worker.gathering != Worker::Gathering::No) {
      const bool ran = worker.gathering == Worker::Gathering::Sealed;
      disband_batch(worker, ran ? Alone::Yes : Alone::No);
    }
    disband(worker);  // what it had not begun runs elsewhere
    end(worker, exit.oom ? Why::OutOfMemory
                         : (was == WorkerState::Starting ? Why::StartFailed : Why::Crashed));
    const std::string what =
        fmt::format("{}: the instance {}", pool.runtime->label, describe(exit));
    LOG(warn, "instance died", {"version", pool.runtime->label}, {"instance", worker.id},
        {"how", describe(exit)});
    std::string_view slug =
        was == WorkerState::Starting ? reason::kStartFailed : reason::kInstanceCrashed;
    if (exit.oom) slug = reason::kOutOfMemory;
    fail_held(worker,
              refuse(slug, exit.oom ? fmt::format("{} of {}", what, to_string(pool.runtime->memory))
                                    : what)
                  .error());
    if (was == WorkerState::Starting) {
      start_failed(pool, Error{.code = Code::Unavailable,
                               .message = fmt::format("a fresh instance {}", describe(exit))});
    }
  }
  bury(worker);
  run();
}

// Kills it as a unit. Its exit is awaited only to know that it is gone.
void Scheduler::end(Worker& worker, Why why) {
  if (worker.state == WorkerState::Ending) return;
  record(worker.pool, Action::EndInstance, why);
  if (worker.state == WorkerState::Idle) leave_idle(worker);
  release_tokens(worker);
  charge(worker.pool, worker.charged, Bytes{});
  if (worker.pool.last_given == &worker) worker.pool.last_given = nullptr;
  std::erase(gathering_, &worker);
  worker.slow.cancel();
  set_state(worker, WorkerState::Ending);
  worker.instance->kill();
  contend_all(worker.pool.function);
  touch(worker.pool);
}

void Scheduler::make_idle(Worker& worker) {
  set_state(worker, WorkerState::Idle);
  worker.slow.cancel();
  worker.since = now_;
  worker.pool.idle.push_back(&worker);
  worker.pool.last_used = now_;
  unpark(worker.pool);  // what it lacked it has now
  if (!parked_for_memory_.empty()) {
    list_for_reclaim(worker.pool);  // it may be ended for them, at once
    memory_freed_ = true;
  }
  contend_all(worker.pool.function);
  touch(worker.pool);
}

void Scheduler::leave_idle(Worker& worker) {
  std::vector<Worker*>& idle = worker.pool.idle;
  const auto found = std::find(idle.rbegin(), idle.rend(), &worker);
  CHECK(found != idle.rend());
  idle.erase(std::next(found).base());
}

// Records hold whole microseconds. What is left over counts with the instance's next request: a sum
// of short calls is neither above what was used nor far below.
Duration Scheduler::unbilled(Worker& worker) const {
  return std::max(worker.instance->cpu() - worker.cpu_seen, Duration::zero());
}

// The request's last figures; the instance has it no more.
void Scheduler::bill(Request& request, Worker& worker, Duration ran, Duration cpu) {
  end_call(request);
  request.timing.run = ran;
  request.timing.cpu = std::chrono::floor<std::chrono::microseconds>(cpu);
  worker.cpu_seen += request.timing.cpu;
  request.peak_memory = worker.peak;
  request.worker = nullptr;
  request.state = Request::State::New;
}

void Scheduler::release(Request& request, Worker& worker, Duration ran, Duration cpu) {
  bill(request, worker, ran, cpu);
  std::erase(worker.requests, &request);
}

void Scheduler::release_unanswered(Request& request, Worker& worker) {
  Duration ran{};
  if (request.runs) {
    ran = now_ - *request.runs;
  } else {
    request.timing.start += now_ - request.handed;
  }
  release(request, worker, ran, unbilled(worker));
}

void Scheduler::fail_held(Worker& worker, const Error& error, std::chrono::seconds retry_after) {
  forget_batch(worker);
  while (!worker.requests.empty()) {
    Request& request = *worker.requests.front();
    release_unanswered(request, worker);
    finish(request, std::unexpected(error), retry_after);
  }
}

void Scheduler::set_state(Worker& worker, WorkerState state) {
  VersionPool& pool = worker.pool;
  const auto count = [&](WorkerState which, std::uint32_t by) {
    switch (which) {
      case WorkerState::Starting:
        pool.starting += by;
        pool.function.busy += by;
        break;
      case WorkerState::Running:
        pool.running += by;
        pool.function.busy += by;
        break;
      case WorkerState::Idle:
        pool.function.idle += by;
        break;
      case WorkerState::Ending:
        pool.ending += by;
        break;
    }
  };
  count(worker.state, static_cast<std::uint32_t>(-1));
  count(state, 1);
  worker.state = state;
}

void Scheduler::take_tokens(Worker& worker) {
  const VersionPool& pool = worker.pool;
  worker.since = now_;
  if (pool.runtime->rank == Rank::Guest) return;
  worker.tokens = tokens_of(pool.runtime->threads, options_.cores);
  tokens_used_ += worker.tokens;
  const Duration expected = pool.mean_run == Duration::zero() ? kUnknownRun : pool.mean_run;
  worker.estimate = expected * worker.tokens;
  share_.begin(pool.function.share, worker.estimate);
}

void Scheduler::release_tokens(Worker& worker) {
  const std::uint32_t tokens = std::exchange(worker.tokens, 0U);
  if (tokens == 0) return;
  tokens_used_ -= tokens;
  share_.correct(worker.pool.function.share, worker.estimate, (now_ - worker.since) * tokens);
}

void Scheduler::sample(Worker& worker) {
  if (worker.peak_sampled != TimePoint{} && now_ - worker.peak_sampled < kSampleInterval) return;
  worker.peak_sampled = now_;
  worker.peak = std::max(worker.peak, worker.instance->peak_memory());
  if (worker.peak <= worker.charged) return;
  if (worker.state != WorkerState::Ending) charge(worker.pool, worker.charged, worker.peak);
  worker.pool.instance_bytes = std::max(worker.pool.instance_bytes, worker.peak);
}

void Scheduler::charge(MemoryShare* share, Bytes& slot, Bytes amount) {
  if (amount < slot) memory_freed_ = true;
  memory_used_ = memory_used_ + amount - slot;
  if (share != nullptr) share->used = share->used + amount - slot;
  slot = amount;
}

void Scheduler::bury(std::unique_ptr<Template> process) {
  if (process == nullptr) return;
  dead_templates_.push_back(std::move(process));
  burial_.arm(now_);
}

void Scheduler::bury(std::unique_ptr<EnvironmentTemplate> process) {
  if (process == nullptr) return;
  dead_environments_.push_back(std::move(process));
  burial_.arm(now_);
}

void Scheduler::bury(Worker& worker) {
  VersionPool& pool = worker.pool;
  CHECK(worker.state == WorkerState::Ending);
  --pool.ending;
  const std::size_t index = worker.index;
  dead_workers_.push_back(std::move(pool.workers.at(index)));
  if (index + 1 < pool.workers.size()) {
    pool.workers[index] = std::move(pool.workers.back());
    pool.workers[index]->index = index;
  }
  pool.workers.pop_back();
  burial_.arm(now_);
  touch(pool);
}

}  // namespace mayfly
