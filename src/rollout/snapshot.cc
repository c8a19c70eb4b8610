#include "rollout/snapshot.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "core/reason.h"
#include "core/units.h"
#include "rollout/evidence_json.h"

namespace mayfly::rollout {
namespace {

using namespace std::chrono_literals;

Status read_side(JsonReader& reader, std::string_view key, Evidence& out) {
  const Json* found = reader.value(key);
  if (found != nullptr) out = TRY(read_evidence(*found));
  return {};
}

Status read_held_out(const Json& json, std::optional<HeldOut>& out) {
  HeldOut held_out;
  JsonReader reader(json, "held_out", reason::kBadRequest);
  reader.integer("rows", held_out.rows, std::uint64_t{0}, kMostHeldOutRows);
  const Json* champion = reader.value("champion");
  const Json* challenger = reader.value("challenger");
  TRY(reader.finish());
  if (champion != nullptr) held_out.champion = TRY(read_evidence(*champion));
  if (challenger != nullptr) held_out.challenger = TRY(read_evidence(*challenger));
  out = std::move(held_out);
  return {};
}

}  // namespace

void HeldOut::merge(const HeldOut& again) {
  if (rows == 0) {
    *this = again;
    return;
  }
  champion.merge_times(again.champion);
  challenger.merge_times(again.challenger);
}

std::string to_json(const RolloutSnapshot& snapshot) {
  Json json{{"step", snapshot.step},
            {"time_in_step", mayfly::to_string(snapshot.time_in_step)},
            {"waited", mayfly::to_string(snapshot.waited)},
            {"approved", snapshot.approved},
            {"paused", snapshot.paused},
            {"champion", evidence_json(snapshot.champion)},
            {"challenger", evidence_json(snapshot.challenger)}};
  if (snapshot.held_out)
    json["held_out"] = {{"rows", snapshot.held_out->rows},
                        {"champion", evidence_json(snapshot.held_out->champion)},
                        {"challenger", evidence_json(snapshot.held_out->challenger)}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<RolloutSnapshot> parse_snapshot(std::string_view text) {
  const Json json = TRY(parse_json(text, "rollout"));
  RolloutSnapshot snapshot;
  JsonReader reader(json, "rollout", reason::kBadRequest);
  reader.integer("step", snapshot.step, 0U, static_cast<std::uint32_t>(kMaxSteps - 1))
      .duration("time_in_step", snapshot.time_in_step, 0s, 24h * 36500)
      .duration("waited", snapshot.waited, 0s, 24h * 36500)
      .boolean("approved", snapshot.approved)
      .boolean("paused", snapshot.paused);
  TRY(read_side(reader, "champion", snapshot.champion));
  TRY(read_side(reader, "challenger", snapshot.challenger));
  if (const Json* held_out = reader.value("held_out"))
    TRY(read_held_out(*held_out, snapshot.held_out));
  TRY(reader.finish());
  return snapshot;
}

RolloutSnapshot enter_step(const RolloutPlan& plan, RolloutSnapshot snapshot, std::uint32_t step) {
  CHECK(step < plan.steps.size());
  if (plan.steps.at(step) != Step{StepKind::Traffic, 100}) snapshot.champion = {};
  snapshot.challenger = {};
  snapshot.step = step;
  snapshot.waited += std::exchange(snapshot.time_in_step, {});
  return snapshot;
}

}  // namespace mayfly::rollout
