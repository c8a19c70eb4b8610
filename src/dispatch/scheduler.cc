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

// It begins with the quota's name.
Error over_quota(const VersionPool& pool) {
  return refuse(reason::kQuotaExceeded,
                fmt::format("memory: {} needs more than is left of the {} that the processes of "
                            "its project may hold",
                            pool.runtime->label, to_string(pool.runtime->share->limit)))
      .error();
}

}  // namespace

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
        dead_environments_.clear();
      }) {}

Scheduler::~Scheduler() { destroy_all(); }

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
  prepare_environments();
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
  if (decision.action == Action::Wait) {
    pool.waits_for = decision.why;
    const Flow flow = wait(pool, decision.why);
    if (pool.callees > 0) refuse_deadlocked(pool);
    return flow;
  }
  pool.waits_for = Why::NothingWanted;
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
          : refuse(why == Why::CpuFull ? reason::kNodeBusy : reason::kMemoryPressure,
                   fmt::format("{}: {}", pool.runtime->label, explain(why)))
                .error();
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
        put_off(pool, refuse(reason::kMemoryPressure,
                             pool.runtime->label + ": other functions have the node's memory")
                          .error());
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
    pool.waits_for = Why::NothingWanted;
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
  // What the environment template holds already becomes the template's.
  Bytes template_bytes = pool.tmpl.bytes;
  if (pool.tmpl.state == TemplateState::None) {
    if (const EnvironmentSlot* slot = ready_environment(*pool.runtime))
      template_bytes = template_bytes - std::min(template_bytes, slot->charged);
  }
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
          .template_bytes = template_bytes,
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
