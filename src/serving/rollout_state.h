// A rollout under way as it is kept, and the traffic that each of its steps is. Values; no state.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/traffic.h"
#include "registry/function_table.h"
#include "rollout/plan.h"
#include "rollout/snapshot.h"

namespace mayfly {

struct RolloutState {
  VersionNumber champion;  // what is replaced
  VersionNumber challenger;
  rollout::RolloutPlan plan = {};
  rollout::RolloutSnapshot snapshot = {};

  const rollout::Step& step() const { return plan.steps.at(snapshot.step); }
};

std::string to_json(const RolloutState& state);
Result<RolloutState> parse_rollout_state(std::string_view json);  // strict

// What a function's traffic is while a step lasts.
struct StepTraffic {
  VersionNumber champion;
  Traffic traffic;
};
// `now`: what the step does not change stays.
StepTraffic traffic_of(const RolloutState& state, std::uint32_t step, const Traffic& now);
bool is_as(const FunctionEntry& function, const StepTraffic& wanted);
// The step that the function's traffic is that of; nullopt: of none.
std::optional<std::uint32_t> step_of(const RolloutState& state, const FunctionEntry& function);

}  // namespace mayfly
