// What a search varies: named parameters with their ranges, and the points that are drawn from
// them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/json_reader.h"

namespace mayfly::search {

struct RealRange {
  double low = 0;
  double high = 1;
  bool logarithmic = false;  // each decade as likely; `low` above 0
  bool operator==(const RealRange&) const = default;
};

struct IntegerRange {  // both ends included
  std::int64_t low = 0;
  std::int64_t high = 1;
  bool logarithmic = false;
  bool operator==(const IntegerRange&) const = default;
};

struct Choice {
  std::vector<Json> values;
  bool operator==(const Choice&) const = default;
};

struct Parameter {
  std::string name;
  std::variant<RealRange, IntegerRange, Choice> range;
  bool operator==(const Parameter&) const = default;
};

using Space = std::vector<Parameter>;

// As {"eta": {"low": 0.01, "high": 0.3, "log": true}, "max_depth": {"low": 3, "high": 9},
// "booster": ["gbtree", "dart"]}: integers where both ends are written as integers. Strict:
// InvalidArgument names the parameter.
Result<Space> parse_space(const Json& json);
Json to_json(const Space& space);

// A random number from 0, below 1: a function of its arguments alone.
double uniform(std::uint64_t seed, std::uint32_t trial, std::string_view name);

// A parameter's range as [0, 1): the value there, and the place of a value. nullopt: it lies
// outside.
Json value_at(const Parameter& parameter, double share);
std::optional<double> share_of(const Parameter& parameter, const Json& value);

// The point of trial `number`: a function of its arguments alone (random numbers are hashes of
// seed, trial and the parameter's name), so that trials may be drawn in any order, anywhere, and a
// parameter that is added leaves the others' values as they were.
Json draw(const Space& space, std::uint64_t seed, std::uint32_t number);

}  // namespace mayfly::search
