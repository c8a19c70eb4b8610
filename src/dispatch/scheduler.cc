#include "dispatch/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "core/caller_reason.h"
#include "core/reason.h"
#include "core/units.h"
#include "dispatch/batch.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

Duration rounded(Duration duration) {
  return std::chrono::ceil<std::chrono::milliseconds>(std::max(duration, Duration::zero()));
}

Error error_of(std::string_view slug, std::string message) {
  return refuse(slug, std::move(message)).error();
}

// It begins with the quota's name.
Error over_quota(const VersionPool& pool) {
  return error_of(reason::kQuotaExceeded,
                  fmt::format("memory: {} needs more than is left of the {} that the processes of "
                              "its project may hold",
                              pool.runtime->label, to_string(pool.runtime->share->limit)));
}

}  // namespace

Request::Request(Scheduler& scheduler, Call accepted_call)
    : call(std::move(accepted_call)),
      accepted(scheduler.loop().now()),
      scheduler_(scheduler),
      deadline_(scheduler.loop(), [this] {
        scheduler_.tick();
        scheduler_.give_up(*this, Why::Deadline,
                           error_of(reason::kDeadlineExceeded,
                                    fmt::format("{}: no reply before the deadline, {} after the "
                                                "request was accepted",
                                                call.version->label,
                                                to_string(rounded(call.deadline - accepted)))));
      }) {}

Request::~Request() {
  if (state == State::Queued || state == State::Held) scheduler_.abandon(*this);
}

Scheduler::Scheduler(Loop& loop, Spawner& spawner, DispatchOptions options)
    : loop_(loop),
      spawner_(spawner),
      options_(options),
      now_(loop.now()),
      processes_(loop),
      seal_(loop, [this] { seal_batches(); }),
      patience_(loop,
                [this] {
                  tick();
                  run();
                }),
      burial_(loop, [this] {
        dead_workers_.clear();
        dead_templates_.clear();
      }) {}

Scheduler::~Scheduler() { destroy_all(); }

// ---- Admission ----------------------------------------------------------------------------------

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
    watch_for_end(request);
    if (!dispatch_at_once(request, pool)) enqueue(request, pool);
  }
  run();
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
    return Refusal{.error = error_of(reason::kClientGone, "the client disconnected")};
  }
  if (request.call.deadline <= now_) {
    return Refusal{.error = error_of(reason::kDeadlineExceeded,
                                     fmt::format("{}: the deadline had passed on arrival", label))};
  }
  if (std::optional<Refusal> refused = refusal(pool)) return refused;
  const Duration wait = estimated_wait(queue_view(pool));
  if (now_ + wait <= request.call.deadline) return std::nullopt;
  return Refusal{.error = error_of(reason::kHopelessDeadline,
                                   fmt::format("{}: {} requests wait; the deadline is in {} and "
                                               "the queue takes about {}",
                                               label, pool.queued,
                                               to_string(rounded(request.call.deadline - now_)),
                                               to_string(rounded(wait)))),
                 .retry_after = retry_after(wait)};
}

std::optional<Scheduler::Refusal> Scheduler::refusal(const VersionPool& pool) const {
  const FunctionSettings& settings = *pool.function.settings;
  if (pool.tmpl.state == TemplateState::BackingOff && pool.live() == 0) return start_refused(pool);
  if (settings.max_concurrency != 0 && pool.function.in_flight >= settings.max_concurrency) {
    return Refusal{.error = error_of(reason::kQueueFull,
                                     fmt::format("{}: {} requests are in flight (max_concurrency)",
                                                 pool.runtime->label, pool.function.in_flight)),
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
  return {.error = error_of(
              reason::kQueueFull,
              fmt::format("{}: {} requests wait already (queue_limit = {})", pool.runtime->label,
                          pool.function.queued, pool.function.settings->queue_limit)),
          .retry_after = retry_after(estimated_wait(queue_view(pool)))};
}

Scheduler::Refusal Scheduler::start_refused(const VersionPool& pool) const {
  const Duration left = rounded(pool.tmpl.retry - now_);
  return {.error = error_of(
              reason::kStartFailed,
              fmt::format("{} cannot be started: {}; next attempt in {}", pool.runtime->label,
                          pool.tmpl.cause ? pool.tmpl.cause->message : "unknown", to_string(left))),
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
    give_up(request, Why::ClientGone, error_of(reason::kClientGone, "the client disconnected"));
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
  contend(pool);
}

Request& Scheduler::take_from_queue(Request& request) {
  CHECK(request.state == Request::State::Queued);
  request.pool->queue.remove(request);
  --request.pool->queued;
  --request.pool->function.queued;
  request.pool->queued_rows -= request.rows;
  request.timing.queue = now_ - request.accepted;
  request.state = Request::State::New;
  if (request.pool->queued == 0) unpark(*request.pool);  // nobody needs to yield for it any more
  return request;
}

// The deadline passed or the client went away.
void Scheduler::give_up(Request& request, Why why, Error error) {
  VersionPool& pool = *request.pool;
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
  give_up(request, Why::ClientGone, error_of(reason::kClientGone, "nobody waits for the reply"));
}

void Scheduler::finish(Request& request, Result<Reply> reply, std::chrono::seconds retry) {
  request.deadline_.cancel();
  if (request.cancelled_) {  // it was admitted
    request.cancelled_.reset();
    --request.pool->function.in_flight;
  }
  request.outcome.emplace(Outcome{.reply = std::move(reply),
                                  .tier = request.tier,
                                  .timing = request.timing,
                                  .peak_memory = request.peak_memory,
                                  .memory_limit = request.call.version->memory,
                                  .instance = request.instance,
                                  .retry_after = retry,
                                  .batch = request.batch,
                                  .leads = request.leads});
  request.state = Request::State::Done;
  request.pool = nullptr;
  if (request.resumption.handle) loop_.make_ready(request.resumption);
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

// ---- The loop -----------------------------------------------------------------------------------

void Scheduler::touch(VersionPool& pool) {
  if (pool.touched) return;
  pool.touched = true;
  touched_.push_back(&pool);
}

void Scheduler::run() {
  if (running_) return;  // the call further up goes on with what this event changed
  running_ = true;
  for (pump(); !touched_.empty(); pump()) {
    while (!touched_.empty()) {
      VersionPool& pool = *touched_.back();
      touched_.pop_back();
      pool.touched = false;
      look_after(pool);
    }
  }
  running_ = false;
}

void Scheduler::pump() {
  for (;;) {
    if (VersionPool* parked = retry_parked()) {
      step(*parked);
      continue;
    }
    FairShare::Contender* head = share_.head();
    if (head == nullptr) return;
    if (step(static_cast<PoolContender*>(head)->pool) == Flow::Stop) return;
  }
}

// One at a time: as long as the first one must go on waiting, nothing has changed for the others.
VersionPool* Scheduler::retry_parked() {
  if (build_freed_ && !parked_for_build_.empty()) return &parked_for_build_.front();
  if (memory_freed_ && !parked_for_memory_.empty()) return &parked_for_memory_.front();
  build_freed_ = memory_freed_ = false;
  return nullptr;
}

Scheduler::Flow Scheduler::step(VersionPool& pool) {
  NodeLoad node = node_load();
  Room quota_room = Room::MayBeMade;
  for (;;) {
    VersionLoad version = load_of(pool);
    version.quota_room = quota_room;
    const Decision decision = decide(version, node);
    switch (decision.action) {
      case Action::MakeRoom: {
        const Room room = make_room(nullptr);
        node = node_load();
        node.room = room;
        break;
      }
      case Action::MakeShareRoom:
        quota_room = make_room(pool.runtime->share.get());
        node = node_load();
        break;
      case Action::EndSibling: {
        for (VersionPool* sibling : pool.function.pools) {
          if (sibling->idle.empty()) continue;
          end(*sibling->idle.front(), decision.why);
          break;
        }
        node = node_load();
        break;
      }
      case Action::EndInstance:
        end(*pool.idle.front(), decision.why);
        return Flow::GoOn;  // those that wait for the memory go first
      default:
        return act(pool, decision);
    }
  }
}

Scheduler::Flow Scheduler::act(VersionPool& pool, Decision decision) {
  if (decision.action == Action::Wait) return wait(pool, decision.why);
  unpark(pool);
  share_.remove(pool.contender);
  if (decision.action == Action::None) return Flow::GoOn;
  touch(pool);
  record(pool, decision.action, decision.why);
  switch (decision.action) {
    case Action::Dispatch:
      dispatch(pool);
      break;
    case Action::Fork:
      fork(pool);
      break;
    case Action::BuildTemplate:
      begin_build(pool);
      return Flow::GoOn;  // its end makes the version contend again
    default:
      pool.keep_retry = now_ + kLongestBackOff;
      refuse_all(pool, decision.why);
      return Flow::GoOn;
  }
  contend(pool);
  return Flow::GoOn;
}

// The head of the queue, and what goes with it.
void Scheduler::dispatch(VersionPool& pool) {
  Worker& worker = *pool.idle.back();
  hand_over(take_from_queue(pool.queue.front()), worker);
  if (batches(pool)) return fill(worker);
  while (pool.queued > 0) {
    Worker* joined = joinable(pool.queue.front(), pool);
    if (joined == nullptr) return;
    join(take_from_queue(pool.queue.front()), *joined);
  }
}

void Scheduler::refuse_all(VersionPool& pool, Why why) {
  const Error error =
      why == Why::OverQuota
          ? over_quota(pool)
          : error_of(why == Why::CpuFull ? reason::kNodeBusy : reason::kMemoryPressure,
                     fmt::format("{}: {}", pool.runtime->label, explain(why)));
  answer_warming(pool, std::unexpected(error));
  fail_queue(pool, {.error = error});
}

Scheduler::Flow Scheduler::wait(VersionPool& pool, Why why) {
  record(pool, Action::Wait, why);
  switch (why) {
    case Why::CpuFull: {
      const bool was_parked = pool.parked != VersionPool::Parked::No;
      unpark(pool);
      share_.add(pool.contender);
      if (pool.queued > 0 && pool.function.busy == 0) {
        const TimePoint patient_until = pool.queue.oldest_accepted() + options_.patience;
        if (patient_until > now_) patience_.arm(patient_until);
      }
      return was_parked ? Flow::GoOn : Flow::Stop;
    }
    case Why::MemoryFull:
      memory_freed_ = false;
      if (pool.queued > 0) {
        park(pool, VersionPool::Parked::ForMemory);
      } else {
        put_off(pool, error_of(reason::kMemoryPressure,
                               pool.runtime->label + ": other functions have the node's memory"));
      }
      return Flow::GoOn;
    case Why::OverQuota:
      if (pool.queued == 0) {
        put_off(pool, over_quota(pool));
      } else {  // an instance of its own will be free, or will be gone
        unpark(pool);
        share_.remove(pool.contender);
      }
      return Flow::GoOn;
    case Why::BuildsFull:
      build_freed_ = false;
      park(pool, VersionPool::Parked::ForBuild);
      return Flow::GoOn;
    default:
      unpark(pool);
      share_.remove(pool.contender);
      return Flow::GoOn;
  }
}

// What nobody waits for is tried again later.
void Scheduler::put_off(VersionPool& pool, Error why) {
  unpark(pool);
  share_.remove(pool.contender);
  pool.keep_retry = now_ + 1s;
  answer_warming(pool, std::unexpected(std::move(why)));
  touch(pool);
}

void Scheduler::park(VersionPool& pool, VersionPool::Parked where) {
  share_.remove(pool.contender);
  if (pool.parked == where) return;
  unpark(pool);
  pool.parked = where;
  if (where == VersionPool::Parked::ForBuild) {
    parked_for_build_.push_back(pool);
    return;
  }
  parked_for_memory_.push_back(pool);
  pool.starves = pool.function.idle + pool.function.busy == 0 ? 1 : 0;
  without_memory_ += pool.starves;
}

void Scheduler::unpark(VersionPool& pool) {
  pool.unlink();
  pool.parked = VersionPool::Parked::No;
  without_memory_ -= std::exchange(pool.starves, 0U);
}

// Building a template needs no core of those that requests share, so it does not queue behind them.
void Scheduler::contend(VersionPool& pool) {
  if (pool.parked != VersionPool::Parked::No || !wants_something(pool)) return;
  const bool startable = pool.tmpl.state == TemplateState::Ready;
  if (!pool.idle.empty() || startable) {
    share_.add(pool.contender);
  } else if (pool.tmpl.state == TemplateState::None) {
    park(pool, VersionPool::Parked::ForBuild);
    build_freed_ = true;
  }  // else the end of the build or of the pause comes back to it
}

void Scheduler::contend_all(FunctionState& function) {
  for (VersionPool* pool : function.pools) {
    if (pool->queued > 0) contend(*pool);
  }
}

bool Scheduler::wants_something(VersionPool& pool) const {
  if (mode_ == Mode::Stopping) return false;
  if (pool.queued > 0 && released(pool) <= now_) return true;
  const bool without = pool.tmpl.state == TemplateState::None;
  if (!pool.warming.empty() && without) return true;
  if (!pool.current() || now_ < pool.keep_retry) return false;
  if (pool.live() < pool.function.settings->min_instances) return true;
  return keep_of(pool) == Keep::Template && without;
}

VersionLoad Scheduler::load_of(VersionPool& pool) const {
  const MemoryShare share = pool.runtime->share ? *pool.runtime->share : MemoryShare{};
  const FunctionSettings& settings = *pool.function.settings;
  const bool kept = pool.current() && now_ >= pool.keep_retry;
  return {.queued = pool.queued,
          .idle = static_cast<std::uint32_t>(pool.idle.size()),
          .starting = pool.starting,
          .running = pool.running,
          .function_busy = pool.function.busy,
          .function_idle = pool.function.idle,
          .min_instances = kept ? settings.min_instances : 0,
          .max_instances = settings.max_instances,
          .keep = kept || !pool.warming.empty() ? keep_of(pool) : Keep::Nothing,
          .template_state = pool.tmpl.state,
          .rank = pool.runtime->rank,
          .threads = pool.runtime->threads,
          .instance_bytes = pool.instance_bytes,
          .template_bytes = pool.tmpl.bytes,
          .quota = share.limit,
          .quota_used = share.used,
          .waited = pool.queued > 0 ? now_ - pool.queue.oldest_accepted() : Duration::zero()};
}

NodeLoad Scheduler::node_load() const {
  return {.tokens = options_.cores,
          .tokens_used = tokens_used_,
          .builds = builds_,
          .max_builds = options_.max_builds,
          .memory = options_.memory,
          .memory_used = memory_used_,
          .without_memory = without_memory_,
          .patience = options_.patience};
}

void Scheduler::record(VersionPool& pool, Action action, Why why) {
  const bool first = pool.decisions.add(now_, action, why);
  if (!first && action == Action::Wait) return;
  ++counts_.at(static_cast<std::size_t>(action)).at(static_cast<std::size_t>(why));
}

}  // namespace mayfly
