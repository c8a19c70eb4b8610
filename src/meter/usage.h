// Usage: what functions consumed, by the hour. A pure function of ledger records, exact in
// integers, so that the same records give the same bill forever.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string>

#include "base/clock.h"
#include "meter/record.h"
#include "meter/wire.h"

namespace mayfly {

// An hour of UTC, counted from 1970.
struct Hour {
  std::int64_t value = 0;
  auto operator<=>(const Hour&) const = default;
};
Hour hour_of(WallTime time);
WallTime start_of(Hour hour);

struct HourRange {  // [from, until)
  Hour from{INT64_MIN};
  Hour until{INT64_MAX};
  bool contains(Hour hour) const { return from <= hour && hour < until; }
};

struct UsageKey {
  Hour hour;
  std::string project;
  std::string function;
  std::uint32_t version = 0;
  auto operator<=>(const UsageKey&) const = default;
};

// Sums over attempts. An attempt that no instance served (start tier None: refused, expired in the
// queue) counts as refused and in nothing else but the bytes.
struct Usage {
  std::uint64_t requests = 0;  // served; retries of the same invocation count once
  std::uint64_t attempts = 0;  // served, retries included
  std::uint64_t errors = 0;    // of the attempts
  std::uint64_t refused = 0;
  std::array<std::uint64_t, 4> starts{};  // hot, template, cold or environment, origin
  std::uint64_t queue_us = 0;
  std::uint64_t start_us = 0;
  std::uint64_t run_us = 0;
  std::uint64_t cpu_us = 0;
  std::uint64_t waited_us = 0;  // of run_us: for functions that they called
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  Uint128 memory_time = 0;         // bytes × microseconds: the memory limit while the request ran
  Uint128 shadow_memory_time = 0;  // the part of it that no caller asked for

  void add(const InvocationRecord& record);
  void add(const Usage& other);
  bool operator==(const Usage&) const = default;
};

class UsageTable {
 public:
  void add(const InvocationRecord& record);
  void add(const UsageKey& key, const Usage& usage) { rows_[key].add(usage); }
  // By hour, project, function, version.
  const std::map<UsageKey, Usage>& rows() const { return rows_; }
  bool operator==(const UsageTable&) const = default;

 private:
  std::map<UsageKey, Usage> rows_;
};

}  // namespace mayfly
