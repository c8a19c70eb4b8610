#include "dispatch/status.h"

#include <algorithm>

#include "dispatch/scheduler.h"

namespace mayfly {
namespace {

TemplateStatus status_of(const TemplateSlot& slot, TimePoint now) {
  TemplateStatus status{.state = slot.state,
                        .bytes = slot.bytes,
                        .build_time = slot.build_time,
                        .failures = slot.failures};
  if (slot.state == TemplateState::BackingOff) {
    status.retry_in = std::max(slot.retry - now, Duration::zero());
  }
  if (slot.cause) status.cause = slot.cause->message;
  return status;
}

VersionStatus status_of(const VersionPool& pool, TimePoint now) {
  VersionStatus status{.key = pool.runtime->key,
                       .label = pool.runtime->label,
                       .queued = pool.queued,
                       .starting = pool.starting,
                       .idle = static_cast<std::uint32_t>(pool.idle.size()),
                       .running = pool.running,
                       .ending = pool.ending,
                       .tmpl = status_of(pool.tmpl, now),
                       .calls_per_second = pool.rate.per_second(now),
                       .mean_run = pool.mean_run,
                       .instance_bytes = pool.instance_bytes,
                       .memory = pool.tmpl.charged,
                       .decisions = pool.decisions.records()};
  if (pool.runtime->batching.mode != BatchMode::Off && !pool.mixes_rows) {
    status.batching = {
        .cap = pool.tuner.cap(), .alone = pool.tuner.alone(), .sizes = pool.tuner.sizes()};
  }
  for (const auto& worker : pool.workers) {
    status.memory = status.memory + worker->charged;
    status.tokens += worker->tokens;
  }
  return status;
}

}  // namespace

DispatchStatus Scheduler::status() const {
  DispatchStatus status{.at = loop_.now()};
  status.node = {.tokens = options_.cores,
                 .tokens_used = tokens_used_,
                 .builds = builds_,
                 .memory = options_.memory,
                 .memory_used = memory_used_,
                 .environments = environments_status(),
                 .functions_waiting_for_memory = without_memory_,
                 .decisions = counts_};
  status.versions.reserve(pools_.size());
  for (const auto& [key, pool] : pools_) {
    status.node.queued += pool->queued;
    status.versions.push_back(status_of(*pool, status.at));
  }
  std::ranges::sort(status.versions, {}, &VersionStatus::label);
  return status;
}

}  // namespace mayfly
