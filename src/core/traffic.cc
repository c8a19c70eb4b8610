#include "core/traffic.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxHeaderName = 64;

std::unexpected<Error> bad_traffic(std::string message) {
  return refuse(reason::kInvalidTraffic, "traffic: " + std::move(message));
}

// Finalizer of splitmix64 (Steele, Lea, Flood 2014): a bijection that spreads every bit.
constexpr std::uint64_t mixed(std::uint64_t value) {
  value += 0x9e37'79b9'7f4a'7c15U;
  value = (value ^ (value >> 30U)) * 0xbf58'476d'1ce4'e5b9U;
  value = (value ^ (value >> 27U)) * 0x94d0'49bb'1331'11ebU;
  return value ^ (value >> 31U);
}

// In (0, 1), of 52 bits.
double fraction(std::uint64_t hash) { return (static_cast<double>(hash >> 12U) + 0.5) * 0x1p-52; }

constexpr std::uint64_t kShadowSalt = 0x7368'6164'6f77'0000U;

Result<std::vector<VersionShare>> read_shares(const Json* json, std::string_view what) {
  std::vector<VersionShare> shares;
  if (json == nullptr) return shares;
  if (!json->is_object()) {
    return bad_traffic(fmt::format("'{}' is not an object of version: percent", what));
  }
  for (const auto& [key, value] : json->items()) {
    const VersionNumber version = TRY(parse_version_number(key));
    const std::uint64_t percent = value.is_number_unsigned() ? value.get<std::uint64_t>() : 0;
    if (percent == 0 || percent > kWholeTraffic) {
      return bad_traffic(fmt::format("'{}': version {} gets a whole percentage from 1 to 100", what,
                                     version.value));
    }
    shares.push_back({version, static_cast<std::uint32_t>(percent)});
  }
  std::ranges::sort(shares, {}, &VersionShare::version);
  if (const auto twice = std::ranges::adjacent_find(shares, {}, &VersionShare::version);
      twice != shares.end()) {
    return bad_traffic(fmt::format("'{}' names version {} twice", what, twice->version.value));
  }
  return shares;
}

Status check_header(std::string_view name) {
  const auto in_token = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  };
  if (name.size() <= kMaxHeaderName && std::ranges::all_of(name, in_token)) return {};
  return bad_traffic("'sticky_header' is not the name of a header");
}

Status check(const Traffic& traffic) {
  std::uint32_t sum = 0;
  for (const VersionShare& share : traffic.weights) sum += share.percent;
  if (!traffic.weights.empty() && sum != kWholeTraffic) {
    return bad_traffic(fmt::format("the weights sum to {}, not 100", sum));
  }
  if (traffic.weights.size() > kMaxSplit || traffic.shadows.size() > kMaxShadows) {
    return bad_traffic(
        fmt::format("at most {} versions share the requests, and at most {} shadow "
                    "them",
                    kMaxSplit, kMaxShadows));
  }
  for (const VersionShare& shadow : traffic.shadows) {
    if (std::ranges::find(traffic.weights, shadow.version, &VersionShare::version) !=
        traffic.weights.end()) {
      return bad_traffic(
          fmt::format("version {} has a weight: it cannot shadow too", shadow.version.value));
    }
  }
  return check_header(traffic.sticky_header);
}

Json shares_json(const std::vector<VersionShare>& shares) {
  Json json = Json::object();
  for (const VersionShare& share : shares)
    json[std::to_string(share.version.value)] = share.percent;
  return json;
}

Json as_json(const Traffic& traffic) {
  return {{"weights", shares_json(traffic.weights)},
          {"shadows", shares_json(traffic.shadows)},
          {"sticky_header", traffic.sticky_header}};
}

Result<Traffic> read_traffic(const Json& json) {
  JsonReader reader(json, "traffic", reason::kInvalidTraffic);
  Traffic traffic;
  const Json* weights = reader.value("weights");
  const Json* shadows = reader.value("shadows");
  reader.text("sticky_header", traffic.sticky_header);
  TRY(reader.finish());
  traffic.weights = TRY(read_shares(weights, "weights"));
  traffic.shadows = TRY(read_shares(shadows, "shadows"));
  TRY(check(traffic));
  return traffic;
}

bool has(const std::vector<VersionShare>& shares, VersionNumber version) {
  return std::ranges::find(shares, version, &VersionShare::version) != shares.end();
}

}  // namespace

Result<Traffic> parse_traffic(std::string_view json) {
  const Json parsed = TRY(parse_json(json, "traffic"));
  return read_traffic(parsed);
}

std::string to_json(const Traffic& traffic) { return as_json(traffic).dump(); }

// FNV-1a, then mixed. Not against adversaries: whoever sends keys may choose their version anyway.
std::uint64_t traffic_key(std::string_view text) {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x0000'0100'0000'01b3U;
  return mixed(hash);
}

VersionNumber choose(const std::vector<VersionShare>& weights, std::uint64_t key) {
  VersionNumber best;
  double least = std::numeric_limits<double>::infinity();
  for (const VersionShare& share : weights) {
    const double u = fraction(mixed(key ^ mixed(share.version.value)));
    const double score = -std::log(u) / share.percent;
    if (score < least) {
      least = score;
      best = share.version;
    }
  }
  return best;
}

bool shadows(const VersionShare& shadow, std::uint64_t key) {
  const double u = fraction(mixed(key ^ mixed(kShadowSalt + shadow.version.value)));
  return u * kWholeTraffic < shadow.percent;
}

const Alias* Routing::find(std::string_view alias) const {
  const auto found = std::ranges::find(aliases, alias, &Alias::name);
  return found == aliases.end() ? nullptr : &*found;
}

bool Routing::names(VersionNumber version) const {
  return has(traffic.weights, version) || has(traffic.shadows, version) ||
         std::ranges::find(aliases, version, &Alias::version) != aliases.end();
}

Result<Routing> parse_routing(std::string_view json) {
  const Json parsed = TRY(parse_json(json, "routing"));
  JsonReader reader(parsed, "routing", reason::kInvalidTraffic);
  const Json* traffic = reader.value("traffic");
  const Json* aliases = reader.value("aliases");
  Routing routing;
  reader.boolean("waiting", routing.waiting);
  TRY(reader.finish());
  if (traffic != nullptr) routing.traffic = TRY(read_traffic(*traffic));
  if (aliases == nullptr) return routing;
  if (!aliases->is_object()) return bad_traffic("'aliases' is not an object of name: version");
  for (const auto& [name, version] : aliases->items()) {
    TRY(check_alias(name));
    if (!version.is_number_unsigned()) {
      return bad_traffic(fmt::format("alias '{}' names no version", name));
    }
    const VersionNumber number = TRY(parse_version_number(version.dump()));
    routing.aliases.push_back({.name = name, .version = number});
  }
  std::ranges::sort(routing.aliases, {}, &Alias::name);
  return routing;
}

std::string to_json(const Routing& routing) {
  Json aliases = Json::object();
  for (const Alias& alias : routing.aliases) aliases[alias.name] = alias.version.value;
  Json json{{"traffic", as_json(routing.traffic)}, {"aliases", std::move(aliases)}};
  if (routing.waiting) json["waiting"] = true;
  return json.dump();
}

}  // namespace mayfly
