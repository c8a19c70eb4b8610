#include "training/outcome.h"

#include <fmt/format.h>

#include "validation/interval.h"

namespace mayfly {

Conclusion conclude(const TrainPlan& plan, const std::optional<TestLookResult>& test) {
  if (!plan.goal || !plan.rule.metric)
    return {.outcome = kFinished, .why = "there was no goal to hold it against"};
  if (!test) {
    return {.outcome = kDataTooSmall,
            .why = "the snapshot has no test rows, which alone decide whether a goal is reached"};
  }
  const ScoredMetric& said = test->said;
  if (!said.value || !said.low || !said.high) {
    const std::string_view what = said.value ? "cannot be bounded by" : "has no meaning on";
    return {.outcome = kDataTooSmall,
            .why = fmt::format("{} {} the {} test rows", plan.rule.name, what, test->rows)};
  }
  const validation::Metric metric = *plan.rule.metric;
  const double goal = plan.goal->at;
  const bool higher = plan.rule.higher_is_better;
  const double least = higher ? *said.low : *said.high;
  const double most = higher ? *said.high : *said.low;
  const std::string figures = fmt::format(
      "{} is {:.4g} on {} test rows, and surely (95 %, one-sided{}) {} {:.4g}", plan.rule.name,
      *said.value, test->rows, test->looks > 1 ? fmt::format(", for {} looks", test->looks) : "",
      higher ? "at least" : "at most", least);
  if (validation::reaches(metric, least, goal))
    return {.outcome = kGoalReached, .why = fmt::format("{}: the goal is reached", figures)};
  if (!validation::reaches(metric, most, goal)) {
    return {.outcome = kGoalNotReached,
            .why = fmt::format("{}; the goal, {}, is out of reach: at best it is {:.4g}", figures,
                               to_string(*plan.goal), most)};
  }
  Conclusion open{
      .outcome = kDataTooSmall,
      .why = fmt::format("{}; the goal, {}, lies within what these rows leave open", figures,
                         to_string(*plan.goal)),
      .rows_to_decide = validation::rows_to_decide(
          {.estimate = *said.value, .low = *said.low, .high = *said.high}, goal, test->rows)};
  if (open.rows_to_decide)
    open.why += fmt::format("; about {} test rows would decide", *open.rows_to_decide);
  return open;
}

}  // namespace mayfly
