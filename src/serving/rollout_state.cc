#include "serving/rollout_state.h"

#include <algorithm>

#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {

std::string to_json(const RolloutState& state) {
  const Json json{{"champion", state.champion.value},
                  {"challenger", state.challenger.value},
                  {"plan", Json::parse(rollout::to_json(state.plan))},
                  {"snapshot", Json::parse(rollout::to_json(state.snapshot))}};
  return json.dump();
}

Result<RolloutState> parse_rollout_state(std::string_view text) {
  const Json json = TRY(parse_json(text, "rollout"));
  JsonReader reader(json, "rollout", reason::kInternal);
  RolloutState state;
  reader.integer("champion", state.champion.value, 1U, UINT32_MAX)
      .integer("challenger", state.challenger.value, 1U, UINT32_MAX);
  const Json* plan = reader.value("plan");
  const Json* snapshot = reader.value("snapshot");
  TRY(reader.finish());
  if (plan == nullptr || snapshot == nullptr || state.champion.value == 0 ||
      state.challenger.value == 0) {
    return fail(Code::DataLoss, "rollout: champion, challenger, plan or snapshot is missing");
  }
  state.plan = TRY(rollout::parse_plan(plan->dump()));
  state.snapshot = TRY(rollout::parse_snapshot(snapshot->dump()));
  if (state.snapshot.step >= state.plan.steps.size())
    return fail(Code::DataLoss, "rollout: it is in a step that its plan does not have");
  return state;
}

StepTraffic traffic_of(const RolloutState& state, std::uint32_t step, const Traffic& now) {
  const rollout::Step& wanted = state.plan.steps.at(step);
  StepTraffic traffic{.champion = state.champion, .traffic = {}};
  traffic.traffic.sticky_header = now.sticky_header;
  if (wanted.kind == rollout::StepKind::Shadow) {
    traffic.traffic.shadows = {{state.challenger, wanted.percent}};
  } else if (wanted.percent == kWholeTraffic) {
    traffic.champion = state.challenger;
  } else {
    traffic.traffic.weights = {{state.champion, kWholeTraffic - wanted.percent},
                               {state.challenger, wanted.percent}};
    std::ranges::sort(traffic.traffic.weights, {}, &VersionShare::version);
  }
  return traffic;
}

bool is_as(const FunctionEntry& function, const StepTraffic& wanted) {
  const Traffic& now = function.routing->traffic;
  return function.current == wanted.champion && now.weights == wanted.traffic.weights &&
         now.shadows == wanted.traffic.shadows;
}

std::optional<std::uint32_t> step_of(const RolloutState& state, const FunctionEntry& function) {
  for (std::uint32_t step = 0; step < state.plan.steps.size(); ++step) {
    if (is_as(function, traffic_of(state, step, function.routing->traffic))) return step;
  }
  return std::nullopt;
}

}  // namespace mayfly
