// What becomes of a delivery after an attempt. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "events/backoff.h"
#include "store/deliveries.h"

namespace mayfly {

enum class Told : std::uint8_t {
  Delivered,
  Settled,  // delivered, and the store knows it already
  Failed,   // another attempt may do better
  Refused,  // no other will
  CutOff,   // the node stops: it does not count
};

// How an attempt went; `error` says why it was not delivered.
struct Telling {
  Told told = Told::Failed;
  std::string error;
};

struct TellingPatience {
  std::uint32_t attempts = 12;
  Duration longest = std::chrono::hours(24);  // since it was to be told first
  Backoff retries{.first = std::chrono::seconds(10), .longest = std::chrono::hours(6)};
};

// `random` is any 64 bits. Not of Settled.
Deliveries::Finish after_telling(const Delivery& delivery, const Telling& telling,
                                 const TellingPatience& patience, WallTime now,
                                 std::uint64_t random);

}  // namespace mayfly
