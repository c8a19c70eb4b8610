// How sure a figure is: confidence bounds of metrics, and of the difference of two models on the
// same rows.
//
// accuracy    Wilson's score interval (Wilson 1927).
// auc         of two classes: DeLong's variance (DeLong, DeLong, Clarke-Pearson 1988), on the logit
//             scale, so that bounds stay within 0 and 1.
// log_loss, mae, rmse   the mean's interval (Student 1908); of rmse its square's.
// recall_at_10, ndcg_at_10   the mean's normal interval over users, within 0 and 1; Wilson's where
//             all users are the same.
// the others  the percentile bootstrap (Efron & Tibshirani 1993), 2,000 resamples, expanded for few
//             rows (Hesterberg 2015), none below 10, and of a perfect score Wilson's of the rarest
//             class; beyond 10,000 rows, and 1,000 of each class, the normal interval with the
//             spread of 200 resamples; beyond 100,000 rows with that of 50 disjoint blocks.
//
// All are functions of their arguments: the same seed gives the same bounds.
#pragma once

#include <cstdint>
#include <optional>

#include "validation/metric.h"

namespace mayfly::validation {

// Each end holds by itself with probability 1 - alpha; both together with 1 - 2 alpha.
struct Interval {
  double estimate = 0;
  double low = 0;
  double high = 0;
};

// NaN where the metric has no meaning on these rows. `alpha` between 0 and 0.5.
Interval interval(Metric metric, const Predictions& predictions, double alpha, std::uint64_t seed);

// The same interval where each end is to hold with probability 1 - `to` instead of 1 - `from`, by
// the normal approximation on the scale of the metric's own: for bounds that are corrected once it
// is known for how many they must hold.
Interval at_alpha(Metric metric, const Interval& of, double from, double to);

// The end of the interval that a goal is held against: the low one where higher is better.
double pessimistic(Metric metric, const Interval& of);
bool reaches(Metric metric, double value, double goal);

// About how many rows would decide whether the goal is reached, at the spread that was seen;
// nullopt where the estimate is the goal itself. `rows`: what `of` was computed on.
std::optional<std::uint64_t> rows_to_decide(const Interval& of, double goal, std::uint64_t rows);

// The challenger less the champion on the same rows, positive where the challenger is better,
// whatever the metric's direction.
struct Comparison {
  Interval improvement;
  // One-sided: how likely an improvement like this or a larger one is between equals.
  double p_value = 1;
};

// accuracy: McNemar's exact test on the rows about which the two disagree, with the interval of the
// paired difference; the others: the paired bootstrap. InvalidArgument where the rows are not the
// same.
Result<Comparison> compare(Metric metric, const Predictions& champion,
                           const Predictions& challenger, double alpha, std::uint64_t seed);

// The same where it is one of many whose p-values are corrected for their number: of the others,
// the normal tail with the spread of 200 paired resamples, so that no p-value is coarser than what
// it is held against. NaN where the metric has no meaning on these rows.
Result<Comparison> compare_one_of_many(Metric metric, const Predictions& champion,
                                       const Predictions& challenger, double alpha,
                                       std::uint64_t seed);

}  // namespace mayfly::validation
