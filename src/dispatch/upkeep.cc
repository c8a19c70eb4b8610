// Looking after versions: what idles too long ends, what is to be kept is started, what is at zero
// is forgotten; and ending idle processes for others.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/project.h"
#include "core/reason.h"
#include "dispatch/scheduler.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// What a fork costs its caller, and a build of unknown length.
constexpr Duration kForkTime = 1ms;
constexpr Duration kUnknownBuild = 100ms;
// Under memory pressure kept processes are not brought back sooner than this.
constexpr Duration kPressurePause = 10s;

}  // namespace

void Scheduler::look_after(VersionPool& pool) {
  if (pool.to_zero && pool.queued == 0 && pool.starting == 0) evict(pool);
  TimePoint next = std::min(end_back_off(pool), end_overdue(pool));
  end_stuck_starts(pool);
  contend(pool);
  if (droppable(pool)) return drop(pool);
  list_for_reclaim(pool);
  const FunctionSettings& settings = *pool.function.settings;
  if (const TimePoint release = released(pool); pool.queued > 0 && release > now_)
    next = std::min(next, release);
  const bool to_keep = pool.current() && (settings.min_instances > 0 || settings.keep_warm);
  if (to_keep && pool.keep_retry > now_) next = std::min(next, pool.keep_retry);
  if (to_keep && pool.starting > 0) next = std::min(next, now_ + pool.runtime->start_timeout);
  if (next == TimePoint::max()) {
    pool.due.cancel();
  } else {
    pool.due.arm(next);
  }
}

Keep Scheduler::keep_of(const VersionPool& pool) const {
  const bool kept = pool.current() && pool.function.settings->keep_warm;
  return kept || !pool.warming.empty() ? Keep::Template : Keep::Nothing;
}

void Scheduler::answer_warming(VersionPool& pool, const Status& status) {
  for (Promise<void>& warmed : std::exchange(pool.warming, {})) warmed.set(status);
}

RestView Scheduler::rest_of(const VersionPool& pool) const {
  const FunctionSettings& settings = *pool.function.settings;
  const bool current = pool.current();
  return {.standing = pool.standing,
          .queued = pool.queued,
          .idle = static_cast<std::uint32_t>(pool.idle.size()),
          .busy = pool.starting + pool.running,
          .min_instances = current ? settings.min_instances : 0,
          .keep = keep_of(pool),
          .oldest_idle = pool.idle.empty() ? TimePoint{} : pool.idle.front()->since,
          .idle_timeout = settings.idle_timeout,
          .template_state = pool.tmpl.state,
          .last_used = pool.last_used,
          .template_timeout = settings.template_timeout};
}

TimePoint Scheduler::end_overdue(VersionPool& pool) {
  for (;;) {
    const Upkeep due = upkeep(rest_of(pool), now_);
    if (due.decision.action == Action::EndInstance) {
      end(*pool.idle.front(), due.decision.why);
    } else if (due.decision.action == Action::EvictTemplate) {
      end_template(pool, due.decision.why);
    } else {
      return due.next;
    }
  }
}

// A version whose start failed is remembered a while after its pause, so that the next failure
// begins a longer one.
TimePoint Scheduler::end_back_off(VersionPool& pool) {
  TemplateSlot& slot = pool.tmpl;
  if (slot.failures == 0) return TimePoint::max();
  if (slot.state == TemplateState::BackingOff) {
    if (now_ < slot.retry) return slot.retry;
    slot.state = TemplateState::None;
  }
  const TimePoint forget = slot.retry + kLongestBackOff;
  if (forget <= now_ && slot.state == TemplateState::None) {
    slot.failures = 0;
    slot.cause.reset();
    return TimePoint::max();
  }
  return std::max(forget, now_ + 1ms);
}

// Only those that nobody waits for: a request's own deadline ends the others.
void Scheduler::end_stuck_starts(VersionPool& pool) {
  if (pool.starting == 0 || pool.function.settings->min_instances == 0) return;
  for (const std::unique_ptr<Worker>& worker : pool.workers) {
    if (worker->state != WorkerState::Starting || !worker->requests.empty()) continue;
    if (now_ - worker->since < pool.runtime->start_timeout) continue;
    end(*worker, Why::StartFailed);
    return start_failed(pool, Error{.code = Code::DeadlineExceeded,
                                    .message = "a fresh instance was not ready in time"});
  }
}

bool Scheduler::droppable(const VersionPool& pool) const {
  if (pool.queued > 0 || !pool.workers.empty()) return false;
  if (pool.tmpl.state != TemplateState::None) return false;
  if (mode_ == Mode::Stopping) return true;
  if (!pool.warming.empty()) return false;
  const FunctionSettings& settings = *pool.function.settings;
  if (pool.current() && (settings.min_instances > 0 || settings.keep_warm)) return false;
  return pool.tmpl.failures == 0;
}

void Scheduler::drop(VersionPool& pool) {
  FunctionState& function = pool.function;
  unpark(pool);
  share_.remove(pool.contender);
  reclaim_order_.remove(pool.reclaim_instance);
  reclaim_order_.remove(pool.reclaim_template);
  if (pool.touched) std::erase(touched_, &pool);
  std::erase(function.pools, &pool);
  const VersionKey key = pool.runtime->key;
  pools_.erase(key);
  if (function.pools.empty()) functions_.erase(key.function);
}

// ---- Memory -------------------------------------------------------------------------------------

namespace {

bool spare_instance(const VersionPool& pool) {
  const std::uint32_t kept = pool.current() ? pool.function.settings->min_instances : 0;
  return !pool.idle.empty() && pool.queued == 0 && pool.live() > kept;
}
bool spare_template(const VersionPool& pool) {
  return pool.tmpl.state == TemplateState::Ready && pool.queued == 0 && pool.starting == 0;
}
bool spare(const ReclaimEntry& entry) {
  return entry.action == Action::EndInstance ? spare_instance(entry.pool)
                                             : spare_template(entry.pool);
}

Priority priority_of(const ReclaimEntry& entry) {
  if (entry.pool.runtime->rank == Rank::Guest) return Priority::Guest;
  const bool kept = entry.action == Action::EvictTemplate && entry.pool.current() &&
                    entry.pool.function.settings->keep_warm;
  return kept ? Priority::Kept : Priority::Ordinary;
}

double value_of(const ReclaimEntry& entry) {
  const VersionPool& pool = entry.pool;
  if (entry.action == Action::EndInstance) {
    return log_value(pool.rate, kForkTime, pool.instance_bytes);
  }
  const Duration build =
      pool.tmpl.build_time == Duration::zero() ? kUnknownBuild : pool.tmpl.build_time;
  return log_value(pool.rate, build, pool.tmpl.bytes);
}

}  // namespace

// Once listed an entry stays until it reaches the front and turns out to be in use.
void Scheduler::list_for_reclaim(VersionPool& pool) {
  for (ReclaimEntry* entry : {&pool.reclaim_instance, &pool.reclaim_template}) {
    if (entry->listed() || !spare(*entry)) continue;
    reclaim_order_.put(*entry, priority_of(*entry), value_of(*entry));
  }
}

ReclaimEntry* Scheduler::victim() {
  while (ReclaimOrder::Entry* least = reclaim_order_.least()) {
    auto& entry = *static_cast<ReclaimEntry*>(least);
    if (!spare(entry)) {
      reclaim_order_.remove(entry);
      continue;
    }
    const Priority priority = priority_of(entry);
    const double value = value_of(entry);
    if (reclaim_order_.is_at(entry, priority, value)) return &entry;
    reclaim_order_.put(entry, priority, value);
  }
  return nullptr;
}

Bytes Scheduler::reclaim(ReclaimEntry& entry, Why why) {
  VersionPool& pool = entry.pool;
  const Bytes before = memory_used_;
  if (entry.action == Action::EndInstance) {
    end(*pool.idle.front(), why);
  } else {
    end_template(pool, why);
  }
  pool.keep_retry = now_ + kPressurePause;
  return before - memory_used_;
}

// The least valuable of one owner; null: nothing of his is idle. It looks at every version with
// processes, also where nothing comes of it and the request is refused.
ReclaimEntry* Scheduler::victim_of(const MemoryShare* share) {
  ReclaimEntry* least = nullptr;
  std::pair<Priority, double> lowest;
  for (auto& [key, pool] : pools_) {
    if (pool->runtime->share.get() != share) continue;
    for (ReclaimEntry* entry : {&pool->reclaim_instance, &pool->reclaim_template}) {
      if (!spare(*entry)) continue;
      const std::pair worth{priority_of(*entry), value_of(*entry)};
      if (least != nullptr && worth >= lowest) continue;
      least = entry;
      lowest = worth;
    }
  }
  return least;
}

// Whatever it is doing: a caller waits for its memory. False: there is none. `of`: of this owner;
// null: anybody's.
bool Scheduler::end_guest(const MemoryShare* of) {
  for (auto& [key, pool] : pools_) {
    if (pool->runtime->rank != Rank::Guest) continue;
    if (of != nullptr && pool->runtime->share.get() != of) continue;
    const Bytes before = memory_used_;
    const Error error =
        refuse(reason::kMemoryPressure, pool->runtime->label + ": others need its memory").error();
    for (std::size_t i = 0; i < pool->workers.size(); ++i) {
      end(*pool->workers[i], Why::MemoryPressure);
      fail_held(*pool->workers[i], error);
    }
    end_template(*pool, Why::MemoryPressure);
    if (memory_used_ < before) return true;
  }
  return false;
}

// Ends what is worth least. `of`: of this owner; null: anybody's.
Room Scheduler::make_room(const MemoryShare* of) {
  if (ReclaimEntry* least = of == nullptr ? victim() : victim_of(of)) {
    reclaim(*least, of == nullptr ? Why::MemoryPressure : Why::OverQuota);
    return Room::MayBeMade;
  }
  return end_guest(of) || evict_environment(of) ? Room::MayBeMade : Room::NoneLeft;
}

Bytes Scheduler::relieve(Bytes wanted) {
  tick();
  Bytes freed;
  while (freed < wanted) {
    const Bytes before = memory_used_;
    if (ReclaimEntry* least = victim()) {
      reclaim(*least, Why::MemoryPressure);
    } else if (!evict_environment(nullptr)) {
      break;
    }
    freed = freed + before - memory_used_;
  }
  run();
  return freed;
}

// ---- From outside -------------------------------------------------------------------------------

void Scheduler::serve(std::shared_ptr<const VersionRuntime> current,
                      std::shared_ptr<const FunctionSettings> settings, std::uint64_t sequence) {
  if (mode_ == Mode::Stopping) return;
  tick();
  const FunctionId id = current->key.function;
  const bool keep = settings->min_instances > 0 || settings->keep_warm;
  const auto known = functions_.find(id);
  if (known == functions_.end() && !keep) return;
  FunctionState& function = function_of(id);
  if (sequence < function.settings_sequence) return;
  function.settings = std::move(settings);
  function.settings_sequence = sequence;
  function.current = current->key.version;
  if (keep && find(current->key) == nullptr) add_pool(function, std::move(current));
  for (VersionPool* pool : function.pools) {
    pool->keep_retry = {};
    if (pool->current()) pool->to_zero = false;
    touch(*pool);
    contend(*pool);
  }
  run();
}

void Scheduler::warm(std::shared_ptr<const VersionRuntime> version,
                     std::shared_ptr<const FunctionSettings> settings, std::uint64_t sequence,
                     Promise<void> warmed) {
  tick();
  VersionPool& pool = pool_of(std::move(version), std::move(settings), sequence);
  pool.to_zero = false;  // it was to go, and is wanted again
  pool.warming.push_back(std::move(warmed));
  pool.last_used = now_;
  touch(pool);
  if (mode_ == Mode::Stopping) {
    answer_warming(pool, refuse(reason::kDraining, "the node is shutting down"));
  } else if (pool.tmpl.state == TemplateState::Ready) {
    answer_warming(pool, {});
  } else if (pool.tmpl.state == TemplateState::BackingOff) {
    answer_warming(pool, std::unexpected(start_refused(pool).error));
  } else {
    contend(pool);
  }
  run();
}

void Scheduler::retire(VersionPool& pool) {
  answer_warming(pool, refuse(reason::kUnknownVersion, pool.runtime->label + " was deleted"));
  pool.standing = Standing::Retiring;
  if (pool.current()) pool.function.current.reset();
  if (pool.queued == 0 && pool.starting == 0) end_template(pool, Why::Retired);
  if (pool.tmpl.state == TemplateState::BackingOff) pool.tmpl.state = TemplateState::None;
  pool.tmpl.failures = 0;
  touch(pool);
}

void Scheduler::retire(VersionKey version) {
  tick();
  if (VersionPool* pool = find(version)) retire(*pool);
  leave_environments(version.function, version.version);
  run();
}

void Scheduler::retire(FunctionId function) {
  tick();
  const auto found = functions_.find(function);
  if (found != functions_.end()) {
    for (VersionPool* pool : found->second->pools) retire(*pool);
  }
  leave_environments(function, std::nullopt);
  run();
}

void Scheduler::evict(VersionPool& pool) {
  while (!pool.idle.empty()) end(*pool.idle.front(), Why::Asked);
  for (const std::unique_ptr<Worker>& worker : pool.workers) {
    worker->afterwards = Afterwards::End;
  }
  pool.to_zero = pool.queued > 0 || pool.starting > 0;
  if (!pool.to_zero) end_template(pool, Why::Asked);
  touch(pool);
}

void Scheduler::evict(VersionKey version) {
  tick();
  if (VersionPool* pool = find(version)) evict(*pool);
  run();
}

void Scheduler::evict(FunctionId function) {
  tick();
  const auto found = functions_.find(function);
  if (found != functions_.end()) {
    for (VersionPool* pool : found->second->pools) evict(*pool);
  }
  run();
}

// What is being forked goes on to its request, and ends after it.
void Scheduler::renew(VersionPool& pool) {
  while (!pool.idle.empty()) end(*pool.idle.front(), Why::Asked);
  for (const std::unique_ptr<Worker>& worker : pool.workers) {
    worker->afterwards = Afterwards::End;
  }
  end_template(pool, Why::Asked);
  if (pool.tmpl.state == TemplateState::BackingOff) pool.tmpl.state = TemplateState::None;
  pool.tmpl.failures = 0;
  pool.tmpl.cause.reset();
  touch(pool);
  contend(pool);
}

void Scheduler::renew(std::string_view project, std::string_view secret) {
  tick();
  for (const auto& [key, pool] : pools_) {
    const VersionRuntime& runtime = *pool->runtime;
    const bool knows =
        std::ranges::find(runtime.secret_names, secret) != runtime.secret_names.end();
    if (knows && project_of(runtime.label) == project) renew(*pool);
  }
  run();
}

void Scheduler::stop() {
  tick();
  mode_ = Mode::Stopping;
  patience_.cancel();
  for (auto& [key, pool] : pools_) {
    share_.remove(pool->contender);
    unpark(*pool);
    for (std::size_t i = 0; i < pool->workers.size(); ++i) {
      end(*pool->workers[i], Why::Stopping);
    }
    end_template(*pool, Why::Stopping);
    answer_warming(*pool, refuse(reason::kDraining, "the node is shutting down"));
    if (pool->tmpl.state == TemplateState::BackingOff) pool->tmpl.state = TemplateState::None;
    touch(*pool);
  }
  end_environments();
  run();
}

void Scheduler::destroy_all() {
  environments_.clear();
  dead_environments_.clear();
  gathering_.clear();
  reclaim_order_.clear();
  share_.clear();
  without_memory_ = 0;
  touched_.clear();
  pools_.clear();
  functions_.clear();
  dead_workers_.clear();
  dead_templates_.clear();
}

}  // namespace mayfly
