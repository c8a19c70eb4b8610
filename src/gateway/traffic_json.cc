#include "gateway/traffic_json.h"

#include <algorithm>
#include <string>

namespace mayfly {
namespace {

std::uint32_t share_of(const std::vector<VersionShare>& shares, VersionNumber version) {
  const auto found = std::ranges::find(shares, version, &VersionShare::version);
  return found == shares.end() ? 0 : found->percent;
}

Json shares_json(const std::vector<VersionShare>& shares) {
  Json json = Json::object();
  for (const VersionShare& share : shares) {
    json[std::to_string(share.version.value)] = share.percent;
  }
  return json;
}

}  // namespace

std::uint32_t weight_of(const FunctionEntry& function, VersionNumber version) {
  const Traffic& traffic = function.routing->traffic;
  if (traffic.split()) return share_of(traffic.weights, version);
  return version == function.current ? kWholeTraffic : 0;
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
  const Traffic& traffic = function.routing->traffic;
  Json aliases = Json::object();
  for (const Alias& alias : function.routing->aliases) aliases[alias.name] = alias.version.value;
  const std::vector<VersionShare> all = {{function.current, kWholeTraffic}};
  return {{"function", function.name.str()},
          {"champion", function.current.value},
          {"weights", shares_json(traffic.split() ? traffic.weights : all)},
          {"shadows", shares_json(traffic.shadows)},
          {"sticky_header", traffic.sticky_header},
          {"aliases", std::move(aliases)}};
}

}  // namespace mayfly
