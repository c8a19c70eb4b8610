// Automatic rollouts: start, watch, approve, pause, abort.
#include "core/reason.h"
#include "core/units.h"
#include "gateway/control_api.h"

namespace mayfly {
namespace {

constexpr std::uint32_t kDecisionsShown = 50;

struct StartBody {
  VersionNumber version;
  rollout::RolloutPlan plan;
};

Result<StartBody> parse_start(std::string_view text) {
  const Json json = TRY(parse_json(text, "body"));
  JsonReader reader(json, "body", reason::kInvalidSetting);
  StartBody body;
  reader.integer("version", body.version.value, 1U, UINT32_MAX);
  const Json* plan = reader.value("plan");
  TRY(reader.finish());
  if (body.version.value == 0) return refuse(reason::kInvalidSetting, "body: 'version' is missing");
  if (plan != nullptr) body.plan = TRY(rollout::parse_plan(plan->dump()));
  return body;
}

}  // namespace

Task<Status> ControlApi::start_rollout(Exchange& exchange, FunctionName name, Author author) {
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(const StartBody body, parse_start(text));
  co_return co_await parts_.rollouts.start(name, body.version, body.plan, author);
}

Task<Status> ControlApi::decide_rollout(Exchange& exchange, const Route& route, FunctionName name) {
  const Author author{.who = author_of(exchange, route), .why = "rollout"};
  switch (route.endpoint) {
    case Endpoint::StartRollout:
      co_return co_await start_rollout(exchange, name, author);
    case Endpoint::ApproveRollout:
      co_return co_await parts_.rollouts.order(name, Rollouts::Order::Approve, author);
    case Endpoint::PauseRollout:
      co_return co_await parts_.rollouts.order(name, Rollouts::Order::Pause, author);
    case Endpoint::ResumeRollout:
      co_return co_await parts_.rollouts.order(name, Rollouts::Order::Resume, author);
    case Endpoint::AbortRollout:
      co_return co_await parts_.rollouts.abort(name, author);
    default:
      co_return Status{};
  }
}

// What every one of them answers: where the rollout stands, and what was decided, newest first.
Task<Result<Response>> ControlApi::rollout(Exchange& exchange, const Route& route) {
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(route.name, ""));
  const FunctionName name = resolved.function->name;
  CO_TRY_STATUS(co_await decide_rollout(exchange, route, name));
  CO_TRY(const std::vector<Change> changes, co_await parts_.pool.run([&] {
    return parts_.registry.history(name, kDecisionsShown, "rollout");
  }));
  Json about = parts_.rollouts.describe(name);
  about["decisions"] = history_json(changes);
  co_return json_response(about);
}

}  // namespace mayfly
