#include "rollout/plan.h"

#include <fmt/format.h>

#include <array>
#include <cmath>

#include "core/reason.h"
#include "core/units.h"
#include "rollout/json_numbers.h"

namespace mayfly::rollout {
namespace {

using namespace std::chrono_literals;

constexpr std::array<Word<PassOn>, 2> kPassOn = {
    {{"no_harm", PassOn::NoHarm}, {"proof", PassOn::Proof}}};
constexpr std::array<Word<OnShift>, 2> kOnShift = {
    {{"hold", OnShift::Hold}, {"show", OnShift::Show}}};
constexpr std::array<Word<OnSilence>, 2> kOnSilence = {
    {{"hold", OnSilence::Hold}, {"rollback", OnSilence::RollBack}}};

Json step_json(const Step& step) {
  if (step.kind == StepKind::Traffic) return step.percent;
  if (step.percent == 100) return "shadow";
  return {{"shadow", step.percent}};
}

bool is_percent(const Json& json) {
  return json.is_number_unsigned() && json.get<std::uint64_t>() >= 1 &&
         json.get<std::uint64_t>() <= 100;
}

std::optional<Step> read_step(const Json& json) {
  if (json.is_string() && json.get_ref<const std::string&>() == "shadow") {
    return Step{StepKind::Shadow, 100};
  }
  const bool shadow = json.is_object() && json.size() == 1 && json.contains("shadow");
  const Json& percent = shadow ? json.front() : json;
  if (!is_percent(percent)) return std::nullopt;
  return Step{shadow ? StepKind::Shadow : StepKind::Traffic, percent.get<std::uint32_t>()};
}

bool climbs(const Step& from, const Step& to) {
  if (from.kind == to.kind) return from.percent < to.percent;
  return from.kind == StepKind::Shadow;
}

void read_steps(JsonReader& reader, std::vector<Step>& out) {
  const Json* found = reader.value("steps");
  if (found == nullptr) return;
  if (!found->is_array() || found->empty() || found->size() > kMaxSteps) {
    return reader.error("steps", fmt::format("must be a list of 1 to {} steps", kMaxSteps));
  }
  std::vector<Step> steps;
  for (const Json& json : *found) {
    const std::optional<Step> step = read_step(json);
    if (!step) {
      return reader.error(
          "steps", "must hold \"shadow\", {\"shadow\": PERCENT} or percentages from 1 to 100");
    }
    if (!steps.empty() && !climbs(steps.back(), *step)) {
      return reader.error("steps", "must ascend, shadows before traffic");
    }
    steps.push_back(*step);
  }
  if (steps.back() != Step{StepKind::Traffic, 100}) {
    return reader.error("steps", "must end with 100");
  }
  out = std::move(steps);
}

// null leaves an end open.
bool read_end(const Json& json, double& end) {
  if (json.is_null()) return true;
  if (!json.is_number()) return false;
  end = json.get<double>();
  return std::isfinite(end);
}

void read_ranges(JsonReader& reader, std::map<std::string, OutputRange, std::less<>>& out) {
  const Json* found = reader.value("ranges");
  if (found == nullptr) return;
  if (!found->is_object() || found->size() > kMaxRanges) {
    return reader.error("ranges", fmt::format("must be an object of at most {}", kMaxRanges));
  }
  out.clear();
  for (const auto& [name, ends] : found->items()) {
    OutputRange range;
    const bool good = !name.empty() && name.size() <= kMaxOutputName && ends.is_array() &&
                      ends.size() == 2 && read_end(ends[0], range.low) &&
                      read_end(ends[1], range.high) && range.low <= range.high;
    if (!good) {
      return reader.error(
          "ranges", fmt::format("must give '{}' as [low, high]; null leaves an end open", name));
    }
    out.emplace(name, range);
  }
}

Json end_json(double end) { return std::isfinite(end) ? Json(end) : Json(nullptr); }

}  // namespace

std::string to_string(const Step& step) {
  return fmt::format("{}{} %", step.kind == StepKind::Shadow ? "shadow " : "", step.percent);
}
std::string_view to_string(PassOn pass_on) {
  return kPassOn.at(static_cast<std::size_t>(pass_on)).first;
}
std::string_view to_string(OnShift on_shift) {
  return kOnShift.at(static_cast<std::size_t>(on_shift)).first;
}
std::string_view to_string(OnSilence on_silence) {
  return kOnSilence.at(static_cast<std::size_t>(on_silence)).first;
}

std::string to_json(const RolloutPlan& plan) {
  Json steps = Json::array();
  for (const Step& step : plan.steps) steps.push_back(step_json(step));
  Json ranges = Json::object();
  for (const auto& [name, range] : plan.ranges) {
    ranges[name] = Json::array({end_json(range.low), end_json(range.high)});
  }
  return Json{{"steps", steps},
              {"min_samples", plan.min_samples},
              {"min_time", mayfly::to_string(plan.min_time)},
              {"alpha", plan.alpha},
              {"error_margin", plan.error_margin},
              {"latency_margin", plan.latency_margin},
              {"latency_floor", mayfly::to_string(plan.latency_floor)},
              {"effect_size", plan.effect_size},
              {"pass_on", to_string(plan.pass_on)},
              {"on_shift", to_string(plan.on_shift)},
              {"on_silence", to_string(plan.on_silence)},
              {"silence_limit", mayfly::to_string(plan.silence_limit)},
              {"max_wait", mayfly::to_string(plan.max_wait)},
              {"ranges", ranges}}
      .dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<RolloutPlan> parse_plan(std::string_view json) { return apply_plan({}, json); }

Result<RolloutPlan> apply_plan(const RolloutPlan& plan, std::string_view changes_json) {
  const Json json = TRY(parse_json(changes_json, "rollout"));
  RolloutPlan changed = plan;
  JsonReader reader(json, "rollout", reason::kInvalidSetting);
  read_steps(reader, changed.steps);
  reader.integer("min_samples", changed.min_samples, 1U, 1'000'000'000U)
      .duration("min_time", changed.min_time, 0s, 24h * 365);
  read_real(reader, "alpha", changed.alpha, 1e-9, 0.5);
  read_real(reader, "error_margin", changed.error_margin, 0, 1);
  read_real(reader, "latency_margin", changed.latency_margin, 0, 100);
  reader.duration("latency_floor", changed.latency_floor, 0s, 1h);
  read_real(reader, "effect_size", changed.effect_size, 0.01, 1000);
  read_word<PassOn>(reader, "pass_on", changed.pass_on, kPassOn);
  read_word<OnShift>(reader, "on_shift", changed.on_shift, kOnShift);
  read_word<OnSilence>(reader, "on_silence", changed.on_silence, kOnSilence);
  reader.duration("silence_limit", changed.silence_limit, 1s, 24h * 365)
      .duration("max_wait", changed.max_wait, 0s, 24h * 365);
  read_ranges(reader, changed.ranges);
  if (changed.on_silence == OnSilence::RollBack && changed.silence_limit < changed.min_time) {
    reader.error("silence_limit", "must not be shorter than min_time");
  }
  if (changed.pass_on == PassOn::Proof && changed.steps.size() == 1) {
    reader.error("pass_on", "\"proof\" needs a step before 100 to compare in");
  }
  TRY(reader.finish());
  return changed;
}

}  // namespace mayfly::rollout
