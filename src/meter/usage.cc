#include "meter/usage.h"

namespace mayfly {
namespace {

std::uint64_t count(std::chrono::microseconds duration) {
  return static_cast<std::uint64_t>(duration.count());
}

}  // namespace

Hour hour_of(WallTime time) {
  return {std::chrono::floor<std::chrono::hours>(time).time_since_epoch().count()};
}

WallTime start_of(Hour hour) { return WallTime(std::chrono::hours(hour.value)); }

void Usage::add(const InvocationRecord& record) {
  bytes_in += record.received.count;
  bytes_out += record.sent.count;
  if (record.tier == StartTier::None) {
    ++refused;
    return;
  }
  requests += record.attempt == 1;
  ++attempts;
  errors += !record.reason.empty();
  // Totals on disk know four tiers: a start from an environment template counts as a cold one.
  const StartTier tier = record.tier == StartTier::Environment ? StartTier::Cold : record.tier;
  ++starts[static_cast<std::size_t>(tier) - 1];
  queue_us += count(record.queue);
  start_us += count(record.start);
  run_us += count(record.run);
  cpu_us += count(record.cpu);
  waited_us += count(record.waited);
  const Uint128 held = Uint128{record.memory_limit.count} * count(record.run);
  memory_time += held;
  if (record.caller == kShadowCaller) shadow_memory_time += held;
}

void Usage::add(const Usage& other) {
  requests += other.requests;
  attempts += other.attempts;
  errors += other.errors;
  refused += other.refused;
  for (std::size_t i = 0; i < starts.size(); ++i) starts[i] += other.starts[i];
  queue_us += other.queue_us;
  start_us += other.start_us;
  run_us += other.run_us;
  cpu_us += other.cpu_us;
  waited_us += other.waited_us;
  bytes_in += other.bytes_in;
  bytes_out += other.bytes_out;
  memory_time += other.memory_time;
  shadow_memory_time += other.shadow_memory_time;
}

void UsageTable::add(const InvocationRecord& record) {
  const UsageKey key{.hour = hour_of(record.time),
                     .project = record.project,
                     .function = record.function,
                     .version = record.version.value};
  rows_[key].add(record);
}

}  // namespace mayfly
