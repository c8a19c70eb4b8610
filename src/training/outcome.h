// How a training ends: what the test split says of a goal. Values only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/json_reader.h"
#include "runner/report/score_job.h"
#include "training/train_plan.h"

namespace mayfly {

inline constexpr std::string_view kGoalReached = "goal_reached";
inline constexpr std::string_view kGoalNotReached = "goal_not_reached";
inline constexpr std::string_view kDataTooSmall = "data_too_small";
inline constexpr std::string_view kFinished = "finished";  // there was no goal

struct Conclusion {
  std::string_view outcome = kFinished;
  std::string why;
  std::optional<std::uint64_t> rows_to_decide = {};  // of the test split
  bool registers() const { return outcome == kGoalReached || outcome == kFinished; }
};

// What was seen of the model in the test split, each end of `said` with probability 1 - alpha.
struct TestLookResult {
  ScoredMetric said = {};
  std::uint64_t rows = 0;
  std::uint32_t looks = 1;  // at this split, this one among them
  double alpha = 0.05;
};
// nullopt: there are no test rows.
Conclusion conclude(const TrainPlan& plan, const std::optional<TestLookResult>& test);

}  // namespace mayfly
