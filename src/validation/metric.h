// The metrics that models are judged by: one catalogue for search, validation, gates and monitors.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "validation/predictions.h"

namespace mayfly::validation {

enum class Task : std::uint8_t { Binary, Multiclass, Regression, Recommendation };
std::string_view to_string(Task task);
Result<Task> parse_task(std::string_view text);

enum class Metric : std::uint8_t {
  Auc,
  AveragePrecision,
  LogLoss,
  Accuracy,
  F1,
  Ece,
  Rmse,
  Mae,
  R2,
  RecallAt10,
  NdcgAt10,
};

struct MetricInfo {
  Metric metric;
  std::string_view name;  // "auc"
  bool higher_is_better;
  std::string_view meaning;  // one line, for people
};

// In the order in which they are shown.
std::span<const MetricInfo> catalogue();
const MetricInfo& info(Metric metric);
// InvalidArgument lists the names there are.
Result<Metric> parse_metric(std::string_view name);
bool fits(Metric metric, Task task);
// What a task is judged by when nobody says: auc, log_loss, rmse, recall_at_10.
Metric default_metric(Task task);

// `weights`: how often each row counts, as a bootstrap draws it; empty: once. NaN where the metric
// has no meaning: AUC of one class, R² of a constant. Predictions that `check` let through, of a
// task that the metric fits.
//
// auc                 the probability that a positive row is scored above a negative one, ties half
//                     (Mann-Whitney); of more than two classes the mean over each class against the
//                     rest, weighted by its share.
// average_precision   sum of precision × gained recall over the thresholds; classes likewise.
// log_loss            mean of -ln p of the true class, p at least 1e-15.
// f1                  of class 1; of more classes the mean of each (macro).
// ece                 expected calibration error of the likeliest class, 15 equal bins (Guo et al.
//                     2017, "On Calibration of Modern Neural Networks").
// recall_at_10, ndcg_at_10   the mean over users of what `gain_at_10` says.
class Scorer {
 public:
  // `predictions` outlives me. Sorts once what has to be sorted.
  Scorer(Metric metric, const Predictions& predictions);
  double operator()(std::span<const std::uint32_t> weights = {}) const;

 private:
  double of_classes(const ClassPredictions& some, std::span<const std::uint32_t> weights) const;

  Metric metric_;
  const Predictions& predictions_;
  std::vector<std::vector<std::uint32_t>> orders_;  // by class: rows, the highest score first
};

inline double score(Metric metric, const Predictions& predictions) {
  return Scorer(metric, predictions)();
}

// What one row adds to a metric that is a mean over rows: accuracy and log_loss; mae, and of rmse
// the squared error.
double contribution(Metric metric, const ClassPredictions& predictions, std::size_t row);
double contribution(Metric metric, const ValuePredictions& predictions, std::size_t row);

// What a list of recommendations, the best first, is worth to one user, of whom `held_out` items
// are known, at least one, that the list could have named; `hits`: whether each of the list is one
// of them. recall_at_10: the share of the items held out that are among the first ten. ndcg_at_10:
// the discounted gain of the first ten against that of the best list (Järvelin & Kekäläinen 2002),
// with gains of 0 and 1.
double gain_at_10(Metric metric, std::span<const std::uint8_t> hits, std::size_t held_out);

}  // namespace mayfly::validation
