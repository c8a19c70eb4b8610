// How long to wait before something is asked again: exponential, with full jitter, so that those
// who failed together do not come back together
// (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/). Pure.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/clock.h"
#include "base/rng.h"

namespace mayfly {

struct RetryPlan {
  int tries = 6;  // the first included
  Duration first = std::chrono::milliseconds(200);
  Duration longest = std::chrono::seconds(5);
};

// After `failed` tries, at least 1: anything from nothing to first·2^(failed-1).
inline Duration retry_pause(const RetryPlan& plan, int failed, Rng& rng) {
  const Duration most =
      std::min(plan.longest, plan.first * (std::int64_t{1} << std::min(failed - 1, 20)));
  return Duration(
      static_cast<std::int64_t>(rng.next() % static_cast<std::uint64_t>(most.count() + 1)));
}

}  // namespace mayfly
