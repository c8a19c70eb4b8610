// A request from its acceptance to its outcome: refused at once, given to an instance, queued,
// given up.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "core/reason.h"
#include "core/units.h"
#include "dispatch/batch.h"
#include "dispatch/scheduler.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

Duration rounded(Duration duration) {
  return std::chrono::ceil<std::chrono::milliseconds>(std::max(duration, Duration::zero()));
}

}  // namespace

Request::Request(Scheduler& scheduler, Call accepted_call)
    : call(std::move(accepted_call)),
      accepted(scheduler.loop().now()),
      scheduler_(scheduler),
      deadline_(scheduler.loop(), [this] {
        scheduler_.tick();
        scheduler_.give_up(
            *this, Why::Deadline,
            refuse(reason::kDeadlineExceeded,
                   fmt::format("{}: no reply before the deadline, {} after the "
                               "request was accepted",
                               call.version->label, to_string(rounded(call.deadline - accepted))))
                .error());
      }) {}

Request::~Request() {
  if (state == State::Queued || state == State::Held) scheduler_.abandon(*this);
}

void Scheduler::admit(Request& request) {
  now_ = request.accepted;
  const Call& call = request.call;
  if (call.version->batching.mode != BatchMode::Off) request.rows = rows_of(call.request.layout());
  VersionPool& pool = pool_of(call.version, call.settings, call.settings_sequence);
  request.pool = &pool;
  pool.rate.count(now_);
  pool.last_used = now_;
  touch(pool);
  if (std::optional<Refusal> refused = refusal(request, pool)) {
    finish(request, std::unexpected(std::move(refused->error)), refused->retry_after);
  } else {
    ++pool.function.in_flight;
    begin_call(request);
    watch_for_end(request);
    if (!dispatch_at_once(request, pool)) enqueue(request, pool);
  }
  run();
  if (request.state == Request::State::Queued && pool.callees > 0) refuse_deadlocked(pool);
  // What must wait needs a place in the queue. A version that has no process yet may always have
  // one caller wait for it: a queue_limit of 0 means "no waiting for others", not "never start".
  if (request.state != Request::State::Queued) return;
  const std::uint32_t limit =
      std::max(pool.function.settings->queue_limit, pool.live() == 0 ? 1U : 0U);
  if (pool.function.queued <= limit) return;
  Refusal refused = queue_full(pool);
  finish(take_from_queue(request), std::unexpected(std::move(refused.error)), refused.retry_after);
  touch(pool);
  run();
}

VersionPool* Scheduler::find(VersionKey key) const {
  const auto found = pools_.find(key);
  return found == pools_.end() ? nullptr : found->second.get();
}

VersionPool& Scheduler::pool_of(std::shared_ptr<const VersionRuntime> version,
                                std::shared_ptr<const FunctionSettings> settings,
                                std::uint64_t sequence) {
  VersionPool* pool = find(version->key);
  FunctionState& function = pool ? pool->function : function_of(version->key.function);
  if (function.settings == nullptr || sequence > function.settings_sequence) {
    function.settings = std::move(settings);
    function.settings_sequence = sequence;
  }
  return pool ? *pool : add_pool(function, std::move(version));
}

FunctionState& Scheduler::function_of(FunctionId id) {
  std::unique_ptr<FunctionState>& slot = functions_[id];
  if (slot == nullptr) slot = std::make_unique<FunctionState>(id);
  return *slot;
}

VersionPool& Scheduler::add_pool(FunctionState& function,
                                 std::shared_ptr<const VersionRuntime> runtime) {
  const VersionKey key = runtime->key;
  std::unique_ptr<VersionPool>& slot = pools_[key];
  slot = std::make_unique<VersionPool>(loop_, function, std::move(runtime), [this, key] {
    tick();
    touch(*find(key));
    run();
  });
  function.pools.push_back(slot.get());
  return *slot;
}

std::optional<Scheduler::Refusal> Scheduler::refusal(const Request& request,
                                                     const VersionPool& pool) const {
  const std::string& label = pool.runtime->label;
  if (request.call.cancel.cancelled()) {
    return Refusal{.error = refuse(reason::kClientGone, "the client disconnected").error()};
  }
  if (request.call.deadline <= now_) {
    return Refusal{.error = refuse(reason::kDeadlineExceeded,
                                   fmt::format("{}: the deadline had passed on arrival", label))
                                .error()};
  }
  if (std::optional<Refusal> refused = refusal(pool)) return refused;
  const Duration wait = estimated_wait(queue_view(pool));
  if (now_ + wait <= request.call.deadline) return std::nullopt;
  return Refusal{.error = refuse(reason::kHopelessDeadline,
                                 fmt::format("{}: {} requests wait; the deadline is in {} and "
                                             "the queue takes about {}",
                                             label, pool.queued,
                                             to_string(rounded(request.call.deadline - now_)),
                                             to_string(rounded(wait))))
                              .error(),
                 .retry_after = retry_after(wait)};
}

std::optional<Scheduler::Refusal> Scheduler::refusal(const VersionPool& pool) const {
  const FunctionSettings& settings = *pool.function.settings;
  if (pool.tmpl.state == TemplateState::BackingOff && pool.live() == 0) return start_refused(pool);
  if (settings.max_concurrency != 0 && pool.function.in_flight >= settings.max_concurrency) {
    return Refusal{.error = refuse(reason::kQueueFull,
                                   fmt::format("{}: {} requests are in flight (max_concurrency)",
                                               pool.runtime->label, pool.function.in_flight))
                                .error(),
                   .retry_after = retry_after(estimated_wait(queue_view(pool)))};
  }
  if (pool.function.queued > 0 && pool.function.queued >= settings.queue_limit) {
    return queue_full(pool);
  }
  return std::nullopt;
}

std::optional<Outcome> Scheduler::refusal(VersionKey version) {
  tick();
  const VersionPool* pool = find(version);
  std::optional<Refusal> refused = pool ? refusal(*pool) : std::nullopt;
  if (!refused) return std::nullopt;
  return Outcome{.reply = std::unexpected(std::move(refused->error)),
                 .retry_after = refused->retry_after};
}

Scheduler::Refusal Scheduler::queue_full(const VersionPool& pool) const {
  return {.error = refuse(reason::kQueueFull,
                          fmt::format("{}: {} requests wait already (queue_limit = {})",
                                      pool.runtime->label, pool.function.queued,
                                      pool.function.settings->queue_limit))
                       .error(),
          .retry_after = retry_after(estimated_wait(queue_view(pool)))};
}

Scheduler::Refusal Scheduler::start_refused(const VersionPool& pool) const {
  const Duration left = rounded(pool.tmpl.retry - now_);
  return {
      .error = refuse(reason::kStartFailed,
                      fmt::format(
                          "{} cannot be started: {}; next attempt in {}", pool.runtime->label,
                          pool.tmpl.cause ? pool.tmpl.cause->message : "unknown", to_string(left)))
                   .error(),
      .retry_after = retry_after(left)};
}

QueueView Scheduler::queue_view(const VersionPool& pool) const {
  return {.queued = pool.queued,
          .mean_run = pool.mean_run,
          .threads = pool.runtime->threads,
          .max_instances = pool.function.settings->max_instances,
          .tokens = options_.cores};
}

void Scheduler::watch_for_end(Request& request) {
  request.deadline_.arm(request.call.deadline);
  request.cancelled_.emplace(request.call.cancel, [this, &request] {
    tick();
    if (request.closing) return;  // it has its grace already
    give_up(request, Why::ClientGone,
            refuse(reason::kClientGone, "the client disconnected").error());
  });
}

// The short way of a hot call: past the queue, by the same policy. Whoever waits for a core goes
// first, by the order of shares.
bool Scheduler::dispatch_at_once(Request& request, VersionPool& pool) {
  if (pool.queued > 0 || share_.size() > 0) return false;
  if (Worker* worker = joinable(request, pool)) {
    join(request, *worker);
    return true;
  }
  if (pool.idle.empty() || holds_back(request, pool)) return false;
  VersionLoad load = load_of(pool);
  load.queued = 1;
  const Decision decision = decide(load, node_load());
  if (decision.action != Action::Dispatch) return false;
  record(pool, decision.action, decision.why);
  hand_over(request, *pool.idle.back());
  return true;
}

// The instance whose burst the request becomes part of, if any.
Worker* Scheduler::joinable(const Request& request, const VersionPool& pool) const {
  if (batches(pool)) return open_batch(request, pool);
  Worker* worker = pool.last_given;
  if (worker == nullptr || worker->state != WorkerState::Running) return nullptr;
  if (pool.runtime->calls) return nullptr;  // nobody may wait for what another one has called
  if (pool.runtime->isolation == Isolation::Request || worker->afterwards == Afterwards::End) {
    return nullptr;
  }
  const std::uint32_t free = options_.cores - std::min(tokens_used_, options_.cores);
  const std::uint32_t each = tokens_of(pool.runtime->threads, options_.cores);
  const auto idle = static_cast<std::uint32_t>(pool.idle.size());
  const BurstView burst{.held = static_cast<std::uint32_t>(worker->requests.size()),
                        .others = std::min(idle, free / each),
                        .mean_run = pool.mean_run};
  if (!joins_burst(burst) || !worker->instance->may_join(request.call.request)) return nullptr;
  return worker;
}

void Scheduler::enqueue(Request& request, VersionPool& pool) {
  request.state = Request::State::Queued;
  if (pool.tmpl.state == TemplateState::Ready) request.found_template = pool.tmpl.build;
  pool.queue.push_back(request);
  pool.earliest_deadline = pool.queued == 0
                               ? request.call.deadline
                               : std::min(pool.earliest_deadline, request.call.deadline);
  ++pool.queued;
  ++pool.function.queued;
  pool.queued_rows += request.rows;
  pool.callees += request.call.caller ? 1 : 0;
  contend(pool);
}

Request& Scheduler::take_from_queue(Request& request) {
  CHECK(request.state == Request::State::Queued);
  request.pool->queue.remove(request);
  --request.pool->queued;
  --request.pool->function.queued;
  request.pool->queued_rows -= request.rows;
  request.pool->callees -= request.call.caller ? 1 : 0;
  request.timing.queue = now_ - request.accepted;
  request.state = Request::State::New;
  if (request.pool->queued == 0) unpark(*request.pool);  // nobody needs to yield for it any more
  return request;
}

// The deadline passed or the client went away.
void Scheduler::give_up(Request& request, Why why, Error error) {
  VersionPool& pool = *request.pool;
  if (why == Why::ClientGone && begin_close(request, error)) return run();
  if (request.state == Request::State::Queued) {
    take_from_queue(request);
    touch(pool);
  } else if (request.worker->gathering != Worker::Gathering::No) {
    leave_batch(request, *request.worker, why);
    touch(pool);
  } else {
    // Others of its burst do not suffer; it may turn out to be answered, or not to have begun.
    Worker& worker = *request.worker;
    disband(worker);
    if (request.state == Request::State::Done) return run();
    if (request.state == Request::State::Queued) {
      take_from_queue(request);
    } else {
      sample(worker);
      release_unanswered(request, worker);
      end(worker, why);
      fail_held(worker, error);  // only what claims to have begun two requests at once holds more
    }
    touch(pool);
  }
  finish(request, std::unexpected(std::move(error)));
  run();
}

void Scheduler::abandon(Request& request) {
  tick();
  Error error = refuse(reason::kClientGone, "nobody waits for the reply").error();
  if (!request.closing) request.closing = error;  // at once, also a stream
  give_up(request, Why::ClientGone, std::move(error));
}

void Scheduler::finish(Request& request, Result<Reply> reply, std::chrono::seconds retry) {
  request.deadline_.cancel();
  if (request.closing) reply = std::unexpected(*request.closing);
  if (request.cancelled_) {  // it was admitted
    request.cancelled_.reset();
    --request.pool->function.in_flight;
  }
  std::string traceback = reply ? std::string() : take_traceback(reply.error());
  request.outcome.emplace(Outcome{.reply = std::move(reply),
                                  .tier = request.tier,
                                  .timing = request.timing,
                                  .peak_memory = request.peak_memory,
                                  .memory_limit = request.call.version->memory,
                                  .instance = request.instance,
                                  .retry_after = retry,
                                  .batch = request.batch,
                                  .leads = request.leads,
                                  .batch_rows = request.batch_rows,
                                  .batch_run = request.batch_run,
                                  .traceback = std::move(traceback)});
  request.state = Request::State::Done;
  request.pool = nullptr;
  wake(request);
  leave_calls(request);
}

void Scheduler::wake(Request& request) {
  if (request.resumption.handle) loop_.make_ready(request.resumption);
}

// Nobody wants the rest of a stream: the function is told, and given a moment to tidy up. False:
// nothing of it runs, or it was told before.
bool Scheduler::begin_close(Request& request, const Error& why) {
  if (!request.call.version->streams || request.closing) return false;
  if (request.state != Request::State::Held || !request.runs) return false;
  request.closing = why;
  request.chunk.reset();
  if (request.call.origin) request.call.origin->callees.cancel();
  request.deadline_.arm(now_ + kCloseGrace);
  request.worker->instance->close_stream();
  return true;
}

void Scheduler::close(Request& request, Error why) {
  tick();
  if (request.outcome || request.closing) return;  // it has its grace already
  give_up(request, Why::ClientGone, std::move(why));
}

void Scheduler::fail_queue(VersionPool& pool, const Refusal& why) {
  while (!pool.queue.empty()) {
    finish(take_from_queue(pool.queue.front()), std::unexpected(why.error), why.retry_after);
  }
  touch(pool);
}

void Scheduler::fail_all(const Error& error) {
  tick();
  for (auto& [key, pool] : pools_) {
    fail_queue(*pool, {.error = error, .retry_after = 1s});
    for (std::size_t i = 0; i < pool->workers.size(); ++i) {
      Worker& worker = *pool->workers[i];
      if (worker.requests.empty()) continue;
      sample(worker);
      end(worker, Why::Stopping);
      fail_held(worker, error, 1s);
    }
  }
  run();
}

}  // namespace mayfly
