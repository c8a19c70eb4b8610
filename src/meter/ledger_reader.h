// Reading a ledger folder, also while a Ledger appends to it: blocking, for pools.
#pragma once

#include <functional>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "meter/record.h"
#include "meter/usage.h"

namespace mayfly {

struct TimeRange {  // [from, until)
  WallTime from = WallTime::min();
  WallTime until = WallTime::max();
  bool contains(WallTime time) const { return from <= time && time < until; }
};

// The records that are kept and lie in the range, in the order in which they were written. Pruned
// ones are missing. `visit` ends the reading with an error of its own.
Status for_each_record(const Path& folder, const TimeRange& range,
                       const std::function<Status(const InvocationRecord&)>& visit);

// Usage by whole hours, from sealed totals where they exist and from records elsewhere: each
// segment counts exactly once.
Result<UsageTable> read_usage(const Path& folder, const HourRange& range);

}  // namespace mayfly
