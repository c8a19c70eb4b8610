// How a version is rolled out: the steps it climbs and what is asked of it on each. A value: parsed
// strictly, checked as a whole, printed in one form that parses back to the same plan.
//
//   {"steps": ["shadow", 1, 5, 25, 100], "min_samples": 100, "min_time": "10m", "alpha": 0.05,
//    "error_margin": 0.01, "latency_margin": 0.1, "latency_floor": "100us", "effect_size": 0.5,
//    "pass_on": "no_harm", "on_shift": "hold", "on_silence": "hold", "silence_limit": "24h",
//    "max_wait": "1h", "ranges": {"score": [0, 1], "price": [0, null]}}
//
// Every key may be left out; what stands above are the defaults, but for `ranges` (none).
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace mayfly::rollout {

enum class StepKind : std::uint8_t {
  Shadow,   // copies of `percent` of the requests; the caller gets the champion's replies
  Traffic,  // `percent` of the requests themselves
};

// In JSON "shadow" (of everything), {"shadow": 20}, or the percentage of a traffic step.
struct Step {
  StepKind kind = StepKind::Traffic;
  std::uint32_t percent = 100;  // 1 to 100
  bool operator==(const Step&) const = default;
};
std::string to_string(const Step& step);  // "shadow 20 %", "5 %"

enum class PassOn : std::uint8_t {
  NoHarm,  // no harm is shown, nor does any estimate lie beyond its margin
  Proof,   // errors, and times with min_samples, are proved to lie within their margins
};
enum class OnShift : std::uint8_t {
  Hold,  // for a person's approval
  Show,  // and go on
};
// Lacking samples never promotes.
enum class OnSilence : std::uint8_t {
  Hold,      // for as long as it takes
  RollBack,  // after `silence_limit` in one step
};
std::string_view to_string(PassOn pass_on);
std::string_view to_string(OnShift on_shift);
std::string_view to_string(OnSilence on_silence);

// What an output's values must lie within, ends included.
struct OutputRange {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool operator==(const OutputRange&) const = default;
};

struct RolloutPlan {
  // Shadows first, then traffic; each ascending; the last is 100 % of the traffic.
  std::vector<Step> steps = {{StepKind::Shadow, 100},
                             {StepKind::Traffic, 1},
                             {StepKind::Traffic, 5},
                             {StepKind::Traffic, 25},
                             {StepKind::Traffic, 100}};
  // Each step lasts until both are reached. Samples are requests of the challenger, and of the
  // champion where it still gets any.
  std::uint64_t min_samples = 100;
  Duration min_time = std::chrono::minutes(10);
  // The probability, over the whole rollout and however often one looks, that a version which is
  // within its margins is rolled back by a sequential test (sequential.h).
  double alpha = 0.05;
  double error_margin = 0.01;   // tolerated increase of the error rate, absolute
  double latency_margin = 0.1;  // tolerated increase of a run or start time, relative …
  Duration latency_floor = std::chrono::microseconds(100);  // … and less than this is none
  double effect_size = 0.5;  // Cohen's d from which on a change of outputs is a shift
  PassOn pass_on = PassOn::NoHarm;
  OnShift on_shift = OnShift::Hold;
  OnSilence on_silence = OnSilence::Hold;
  Duration silence_limit = std::chrono::hours(24);
  // How long the whole rollout waits for requests; then held-out rows stand in for those that lack
  // (judge.h).
  Duration max_wait = std::chrono::hours(1);
  // By output; "score" covers the columns "score[0]", "score[1]", … too.
  std::map<std::string, OutputRange, std::less<>> ranges = {};
  bool operator==(const RolloutPlan&) const = default;
};

std::string to_json(const RolloutPlan& plan);
Result<RolloutPlan> parse_plan(std::string_view json);  // strict; absent keys keep defaults
// `plan` with the keys of `changes_json` replaced; checked as a whole.
Result<RolloutPlan> apply_plan(const RolloutPlan& plan, std::string_view changes_json);

inline constexpr std::size_t kMaxSteps = 20;
inline constexpr std::size_t kMaxRanges = 64;
inline constexpr std::size_t kMaxOutputName = 256;

}  // namespace mayfly::rollout
