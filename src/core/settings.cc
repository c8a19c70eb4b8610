#include "core/settings.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "core/destination.h"
#include "core/json_reader.h"
#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kMany = 1'000'000;

Json as_json(const FunctionSettings& settings) {
  return {{"min_instances", settings.min_instances},
          {"max_instances", settings.max_instances},
          {"keep_warm", settings.keep_warm},
          {"idle_timeout", to_string(settings.idle_timeout)},
          {"template_timeout", to_string(settings.template_timeout)},
          {"queue_limit", settings.queue_limit},
          {"max_concurrency", settings.max_concurrency},
          {"keep_versions", settings.keep_versions},
          {"max_attempts", settings.max_attempts},
          {"max_age", to_string(settings.max_age)},
          {"result_ttl", to_string(settings.result_ttl)},
          {"max_events", settings.max_events},
          {"on_success", settings.on_success},
          {"on_failure", settings.on_failure},
          {"gate", to_json_value(settings.gate)},
          {"rollout", Json::parse(settings.rollout)}};
}

Result<FunctionSettings> read_settings(const FunctionSettings& base, const Json& json) {
  FunctionSettings settings = base;
  JsonReader reader(json, "settings", reason::kInvalidSetting);
  reader.integer("min_instances", settings.min_instances, 0U, 10'000U)
      .integer("max_instances", settings.max_instances, 0U, 100'000U)
      .boolean("keep_warm", settings.keep_warm)
      .duration("idle_timeout", settings.idle_timeout, 0s, 24h * 365)
      .duration("template_timeout", settings.template_timeout, 0s, 24h * 365)
      .integer("queue_limit", settings.queue_limit, 0U, kMany)
      .integer("max_concurrency", settings.max_concurrency, 0U, kMany)
      .integer("keep_versions", settings.keep_versions, 0U, kMany)
      .integer("max_attempts", settings.max_attempts, 1U, 100U)
      .duration("max_age", settings.max_age, 1s, 24h * 30)
      .duration("result_ttl", settings.result_ttl, 1s, 24h * 30)
      .integer("max_events", settings.max_events, 0U, kMany)
      .text("on_success", settings.on_success)
      .text("on_failure", settings.on_failure);
  if (const Json* gate = reader.value("gate")) settings.gate = TRY(read_gate_policy(*gate));
  if (const Json* rollout = reader.value("rollout")) {
    if (!rollout->is_object()) reader.error("rollout", "must be an object: the plan of a rollout");
    settings.rollout = rollout->dump();
  }
  if (settings.max_instances != 0 && settings.min_instances > settings.max_instances) {
    reader.error("min_instances", "must not exceed max_instances");
  }
  for (const auto& [key, text] : {std::pair("on_success", settings.on_success),
                                  std::pair("on_failure", settings.on_failure)}) {
    if (text.empty()) continue;
    const auto destination = parse_destination(text);
    if (!destination) reader.error(key, destination.error().message);
  }
  TRY(reader.finish());
  return settings;
}

}  // namespace

std::string to_json(const FunctionSettings& settings) { return as_json(settings).dump(); }

Result<FunctionSettings> parse_settings(std::string_view json) {
  return apply_settings(FunctionSettings{}, json);
}

Result<FunctionSettings> apply_settings(const FunctionSettings& settings,
                                        std::string_view changes_json) {
  const Json json = TRY(parse_json(changes_json, "settings"));
  return read_settings(settings, json);
}

Result<std::string> settings_changes_json(const std::vector<std::string>& assignments) {
  const Json defaults = as_json(FunctionSettings{});
  Json changes = Json::object();
  for (const std::string& assignment : assignments) {
    const std::size_t equals = assignment.find('=');
    if (equals == std::string::npos || equals == 0) {
      return refuse(reason::kInvalidSetting, fmt::format("'{}': write key=value", assignment));
    }
    const std::string key = assignment.substr(0, equals);
    const std::string value = assignment.substr(equals + 1);
    const auto known = defaults.find(key);
    const bool textual = known == defaults.end() || known->is_string();
    const Json parsed = textual ? Json(value) : Json::parse(value, nullptr, false);
    changes[key] = parsed.is_discarded() ? Json(value) : parsed;
  }
  return changes.dump();
}

}  // namespace mayfly
