#include "serving/traffic_json.h"

#include <algorithm>
#include <utility>

#include "core/project.h"

namespace mayfly {
namespace {

std::uint32_t share_of(const std::vector<VersionShare>& shares, VersionNumber version) {
  const auto found = std::ranges::find(shares, version, &VersionShare::version);
  return found == shares.end() ? 0 : found->percent;
}

}  // namespace

std::uint32_t weight_of(const FunctionEntry& function, VersionNumber version) {
  const Traffic& traffic = function.routing->traffic;
  if (traffic.split()) return share_of(traffic.weights, version);
  return version == function.current && !function.routing->waiting ? kWholeTraffic : 0;
}

std::uint32_t shadow_of(const FunctionEntry& function, VersionNumber version) {
  return share_of(function.routing->traffic.shadows, version);
}

Json aliases_of(const FunctionEntry& function, VersionNumber version) {
  Json names = Json::array();
  if (version == function.current) names.push_back(kChampion);
  for (const Alias& alias : function.routing->aliases) {
    if (alias.version == version) names.push_back(alias.name);
  }
  return names;
}

Json traffic_json(const FunctionEntry& function) {
  Traffic traffic = function.routing->traffic;
  const bool waiting = function.routing->waiting;
  if (!traffic.split() && !waiting) traffic.weights = {{function.current, kWholeTraffic}};
  Json about{{"function", local_name(function.name.str())}, {"champion", function.current.value}};
  about.update(Json::parse(to_json(traffic)));
  Json aliases = Json::object();
  for (const Alias& alias : function.routing->aliases) aliases[alias.name] = alias.version.value;
  about["aliases"] = std::move(aliases);
  if (waiting) about["waiting"] = true;
  return about;
}

}  // namespace mayfly
