#include "search/space.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "core/reason.h"

namespace mayfly::search {
namespace {

constexpr std::size_t kMostParameters = 64;
constexpr std::size_t kMostChoices = 256;

// SplitMix64's finaliser (Steele, Lea, Flood 2014): each bit of the result hangs on each of `x`.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// FNV-1a.
std::uint64_t hash(std::string_view text) {
  std::uint64_t value = 0xCBF29CE484222325;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return value;
}

double within(double low, double high, bool logarithmic, double share) {
  if (!logarithmic) return std::lerp(low, high, share);
  return std::exp(std::lerp(std::log(low), std::log(high), share));
}

Json draw_one(const RealRange& range, double share) {
  return std::clamp(within(range.low, range.high, range.logarithmic, share), range.low, range.high);
}

Json draw_one(const IntegerRange& range, double share) {
  const double drawn = within(static_cast<double>(range.low), static_cast<double>(range.high) + 1,
                              range.logarithmic, share);
  return std::clamp(static_cast<std::int64_t>(std::floor(drawn)), range.low, range.high);
}

Json draw_one(const Choice& choice, double share) {
  const auto index = static_cast<std::size_t>(share * static_cast<double>(choice.values.size()));
  return choice.values[std::min(index, choice.values.size() - 1)];
}

// Where `value` lies between the ends, both shares of the range.
double between(double low, double high, bool logarithmic, double value) {
  if (!logarithmic) return low < high ? (value - low) / (high - low) : 0;
  return low < high ? std::log(value / low) / std::log(high / low) : 0;
}

std::optional<double> share_in(const RealRange& range, const Json& value) {
  if (!value.is_number()) return std::nullopt;
  const double at = value.get<double>();
  if (!(at >= range.low && at <= range.high)) return std::nullopt;
  return between(range.low, range.high, range.logarithmic, at);
}

std::optional<double> share_in(const IntegerRange& range, const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  const auto at = value.get<std::int64_t>();
  if (at < range.low || at > range.high) return std::nullopt;
  const double middle = static_cast<double>(at) + 0.5;
  return between(static_cast<double>(range.low), static_cast<double>(range.high) + 1,
                 range.logarithmic, middle);
}

std::optional<double> share_in(const Choice& choice, const Json& value) {
  const auto found = std::ranges::find(choice.values, value);
  if (found == choice.values.end()) return std::nullopt;
  return (static_cast<double>(found - choice.values.begin()) + 0.5) /
         static_cast<double>(choice.values.size());
}

std::unexpected<Error> wrong(std::string_view name, std::string_view what) {
  return refuse(reason::kBadRequest, fmt::format("parameter '{}': {}", name, what));
}

Result<Parameter> parse_choice(const std::string& name, const Json& json) {
  if (json.empty() || json.size() > kMostChoices)
    return wrong(name, fmt::format("has from 1 to {} choices", kMostChoices));
  if (std::ranges::any_of(json, [](const Json& value) { return value.is_structured(); }))
    return wrong(name, "its choices are numbers, texts, true or false");
  return Parameter{name, Choice{{json.begin(), json.end()}}};
}

Result<Parameter> parse_range(const std::string& name, const Json& json) {
  for (const auto& [key, unused] : json.items()) {
    if (key != "low" && key != "high" && key != "log")
      return wrong(name, fmt::format("knows no '{}', only low, high and log", key));
  }
  const Json low = json.value("low", Json());
  const Json high = json.value("high", Json());
  const Json logarithmic = json.value("log", Json(false));
  if (!low.is_number() || !high.is_number() || !logarithmic.is_boolean())
    return wrong(name, R"(must be like {"low": 0.01, "high": 0.3, "log": true})");
  const double least = low.get<double>();
  const double most = high.get<double>();
  const bool by_decade = logarithmic.get<bool>();
  if (!(least < most)) return wrong(name, "low must be below high");
  if (by_decade && !(least > 0)) return wrong(name, "on a logarithmic scale low must be above 0");
  if (!low.is_number_integer() || !high.is_number_integer()) {
    if (!std::isfinite(most - least)) return wrong(name, "is too wide");
    return Parameter{name, RealRange{least, most, by_decade}};
  }
  constexpr double kExact = 9007199254740992;  // 2^53
  if (std::abs(least) > kExact || std::abs(most) > kExact) return wrong(name, "is beyond 2^53");
  return Parameter{name,
                   IntegerRange{low.get<std::int64_t>(), high.get<std::int64_t>(), by_decade}};
}

Json range_json(const RealRange& range) {
  return {{"low", range.low}, {"high", range.high}, {"log", range.logarithmic}};
}

Json range_json(const IntegerRange& range) {
  return {{"low", range.low}, {"high", range.high}, {"log", range.logarithmic}};
}

Json range_json(const Choice& choice) { return Json(choice.values); }

}  // namespace

Result<Space> parse_space(const Json& json) {
  if (!json.is_object() || json.size() > kMostParameters) {
    return refuse(
        reason::kBadRequest,
        fmt::format("a search space is a table of at most {} parameters", kMostParameters));
  }
  Space space;
  for (const auto& [name, range] : json.items()) {
    if (range.is_array()) {
      space.push_back(TRY(parse_choice(name, range)));
    } else if (range.is_object()) {
      space.push_back(TRY(parse_range(name, range)));
    } else {
      return wrong(name, "must be a list of choices or a table with low and high");
    }
  }
  return space;
}

Json to_json(const Space& space) {
  Json json = Json::object();
  for (const Parameter& parameter : space)
    json[parameter.name] =
        std::visit([](const auto& range) { return range_json(range); }, parameter.range);
  return json;
}

double uniform(std::uint64_t seed, std::uint32_t trial, std::string_view name) {
  const std::uint64_t bits = mix(mix(mix(seed) ^ trial) ^ hash(name));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Json value_at(const Parameter& parameter, double share) {
  return std::visit([&](const auto& range) { return draw_one(range, share); }, parameter.range);
}

std::optional<double> share_of(const Parameter& parameter, const Json& value) {
  return std::visit([&](const auto& range) { return share_in(range, value); }, parameter.range);
}

Json draw(const Space& space, std::uint64_t seed, std::uint32_t number) {
  Json point = Json::object();
  for (const Parameter& parameter : space)
    point[parameter.name] = value_at(parameter, uniform(seed, number, parameter.name));
  return point;
}

}  // namespace mayfly::search
