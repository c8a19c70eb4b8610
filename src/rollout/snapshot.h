// Where a rollout stands: all that `judge` looks at, and all that must be kept for it to go on
// after a restart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "rollout/evidence.h"
#include "rollout/plan.h"

namespace mayfly::rollout {

// What both versions made of rows that nobody sent, and that neither has learned from. A row asked
// about again is no new sample: errors, outputs and agreement are of the first time, for each row
// once, and times are of all times.
struct HeldOut {
  std::uint64_t rows = 0;  // different ones
  Evidence champion = {};
  Evidence challenger = {};
  void merge(const HeldOut& again);  // the same rows, once more
  bool operator==(const HeldOut&) const = default;
};

struct RolloutSnapshot {
  std::uint32_t step = 0;   // into the plan's steps
  Duration time_in_step{};  // since it was entered
  Duration waited{};        // in the steps before it
  Evidence champion = {};   // the version that is replaced
  Evidence challenger = {};
  bool approved = false;  // a person accepts the shift of outputs; kept for the whole rollout
  bool paused = false;    // a person holds promotion; harm still rolls back
  std::optional<HeldOut> held_out = {};  // of the whole rollout; nullopt: nobody was asked yet
  bool operator==(const RolloutSnapshot&) const = default;
};

inline constexpr std::uint64_t kMostHeldOutRows = 10'000;
inline constexpr std::uint64_t kMostHeldOutTimes = 100'000;  // of each version

std::string to_json(const RolloutSnapshot& snapshot);
Result<RolloutSnapshot> parse_snapshot(std::string_view json);  // strict

// The snapshot at the begin of `step`: fresh evidence and time. At 100 % the champion gets no more
// requests, so the evidence of the step before stays as what the challenger is measured against.
RolloutSnapshot enter_step(const RolloutPlan& plan, RolloutSnapshot snapshot, std::uint32_t step);

}  // namespace mayfly::rollout
