// How the requests of a function are spread over its versions. Values and the choice; no state.
//
// A function without a split gives everything to its champion. A split names versions with integer
// weights that sum to 100. Shadows get copies of a share of the requests, and nobody their answers.
//
// The choice is weighted rendezvous hashing (Thaler and Ravishankar 1998; the logarithmic scores of
// Schindelhauer and Schomaker 2005): of -ln(u) / weight over the versions, u being a hash of key
// and version, the least wins. So a key meets the same version as long as weights allow: no change
// of weights moves a key away from a version that gained, or to one that lost.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/names.h"

namespace mayfly {

inline constexpr std::uint32_t kWholeTraffic = 100;
inline constexpr std::size_t kMaxSplit = 16;  // versions with a weight
inline constexpr std::size_t kMaxShadows = 8;
inline constexpr std::size_t kMaxAliases = 100;  // of a function

struct VersionShare {
  VersionNumber version;
  std::uint32_t percent = 0;
  bool operator==(const VersionShare&) const = default;
};

struct Traffic {
  // By version; empty: all to the champion. Else at least two, each with 1 to 99, summing to 100.
  std::vector<VersionShare> weights;
  // By version; 1 to 100 each, none of them a version with a weight.
  std::vector<VersionShare> shadows;
  // The request header whose value is the key of a request; empty: keys come with Mayfly-Key only.
  std::string sticky_header;

  bool split() const { return !weights.empty(); }
  bool operator==(const Traffic&) const = default;
};

// {"weights":{"3":95,"4":5},"shadows":{"5":10},"sticky_header":"X-User"}; absent keys are empty,
// {"4":100} alone stays as one weight. Strict.
Result<Traffic> parse_traffic(std::string_view json);
std::string to_json(const Traffic& traffic);

// What decides where a request goes: equal keys, equal version.
std::uint64_t traffic_key(std::string_view text);

// Of a split's weights.
VersionNumber choose(const std::vector<VersionShare>& weights, std::uint64_t key);
// Whether the shadow gets a copy of the request. Independent of choose().
bool shadows(const VersionShare& shadow, std::uint64_t key);

struct Alias {
  std::string name;
  VersionNumber version;
  bool operator==(const Alias&) const = default;
};

// All that moves without a deploy, besides the champion.
struct Routing {
  Traffic traffic;
  std::vector<Alias> aliases;  // by name; "previous" among them, "champion" not
  // Nobody has given the function's requests to a version yet: its first one was registered without
  // them. Requests that name a version are answered, others are not.
  bool waiting = false;

  const Alias* find(std::string_view alias) const;
  // Whether a weight, a shadow or an alias names it.
  bool names(VersionNumber version) const;
  bool operator==(const Routing&) const = default;
};

Result<Routing> parse_routing(std::string_view json);
std::string to_json(const Routing& routing);

}  // namespace mayfly
