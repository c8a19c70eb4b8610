// How long to wait before the next attempt: exponential with full jitter, so that what failed
// together does not come back together. Pure.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace mayfly {

struct Backoff {
  Duration first = std::chrono::seconds(1);  // the longest that the first wait may be
  Duration longest = std::chrono::minutes(5);
};

// After `failures` in a row, at least one: evenly spread over 0 to first × 2^(failures − 1), at
// most `longest`. `random` is any 64 bits.
Duration wait_after(const Backoff& backoff, std::uint32_t failures, std::uint64_t random);

}  // namespace mayfly
