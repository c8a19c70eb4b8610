// What is collected of one version within one step of its rollout: a value that grows by one
// observation at a time, merges with what another thread or location saw, keeps a bounded size
// (about 20 KiB as JSON for a usual version) and survives a restart as JSON.
//
// merge(a, b) is what adding the observations of b to a would have been: exactly for counts, up to
// rounding for means and spreads. The bound on names is the one exception: names beyond kMaxOutputs
// are dropped as they come.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"
#include "core/invocation.h"
#include "rollout/histogram.h"
#include "rollout/outputs.h"
#include "rollout/sequential.h"

namespace mayfly::rollout {

enum class Outcome : std::uint8_t {
  Answered,
  Failed,  // by the version's own fault: it crashed, ran out of memory or time, or lied
};

// A challenger's reply beside the champion's to the same request.
struct Likeness {
  bool agrees = false;    // the same label; for numbers, equal within the caller's tolerance
  double difference = 0;  // the largest absolute difference of two values
};

// One request. What failed by anybody else's fault (the client left, the node was full, the input
// was refused) is not an observation of the version: leave it out.
struct Observation {
  Outcome outcome = Outcome::Answered;
  StartTier tier = StartTier::Hot;
  Duration run{};    // both times count for answered requests only
  Duration start{};  // a hot request has none
  std::span<const OutputSummary> outputs = {};
  std::optional<Likeness> likeness = {};  // shadows only
};

struct Agreement {
  std::uint64_t compared = 0;
  std::uint64_t agreed = 0;
  double max_difference = 0;  // of finite ones; a difference that is not finite is a disagreement
  bool operator==(const Agreement&) const = default;
};

struct Evidence {
  static constexpr std::size_t kMaxOutputs = 64;
  // Times are compared within a tier only: a fresh fork runs slower than an idle instance, and a
  // version with little traffic is started more often. `Origin` and `None` are not timed.
  static constexpr std::array kTiers = {StartTier::Hot, StartTier::Template, StartTier::Environment,
                                        StartTier::Cold};

  std::uint64_t requests = 0;
  std::uint64_t errors = 0;
  std::array<LogHistogram, kTiers.size()> run;    // by kTiers
  std::array<LogHistogram, kTiers.size()> start;  // by kTiers; that of hot stays empty
  std::map<std::string, OutputEvidence, std::less<>> outputs;
  Agreement agreement;

  void add(const Observation& observation);
  void merge(const Evidence& other);
  // Of other's answers nothing but how long they took: they are of requests that count already.
  void merge_times(const Evidence& other);
  std::uint64_t timed() const;  // answers whose run times are known
  Tally error_tally() const { return {requests, errors}; }
  bool operator==(const Evidence&) const = default;
};

std::string to_json(const Evidence& evidence);
// Strict: what could not have been collected (more errors than requests, a negative spread) is
// refused.
Result<Evidence> parse_evidence(std::string_view json);

}  // namespace mayfly::rollout
