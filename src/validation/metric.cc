#include "validation/metric.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "validation/calibration.h"

namespace mayfly::validation {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kLeastProbability = 1e-15;

constexpr std::array<MetricInfo, 11> kCatalogue = {{
    {Metric::Auc, "auc", true, "area under the ROC curve; 0.5 is chance"},
    {Metric::AveragePrecision, "average_precision", true, "area under the precision-recall curve"},
    {Metric::LogLoss, "log_loss", false, "mean of -ln(probability of the true class)"},
    {Metric::Accuracy, "accuracy", true, "share of rows whose likeliest class is the true one"},
    {Metric::F1, "f1", true, "harmonic mean of precision and recall; of more classes their mean"},
    {Metric::Ece, "ece", false,
     "expected calibration error: how far probabilities are from shares"},
    {Metric::Rmse, "rmse", false, "root of the mean squared error, in units of the target"},
    {Metric::Mae, "mae", false, "mean absolute error, in units of the target"},
    {Metric::R2, "r2", true, "share of the target's variance that is explained"},
    {Metric::RecallAt10, "recall_at_10", true,
     "share of a user's held-out items that are among the first 10; the mean over users"},
    {Metric::NdcgAt10, "ndcg_at_10", true,
     "likewise, but what comes first counts more: gain against the best order"},
}};

bool is_of_lists(Metric metric) {
  return metric == Metric::RecallAt10 || metric == Metric::NdcgAt10;
}

using Weights = std::span<const std::uint32_t>;

double weight_of(Weights weights, std::size_t row) { return weights.empty() ? 1.0 : weights[row]; }

// Rows by the score of one class, the highest first.
std::vector<std::uint32_t> by_score(const ClassPredictions& predictions, std::size_t of) {
  std::vector<std::uint32_t> order(predictions.rows());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, std::greater<>(),
                    [&](std::uint32_t row) { return predictions.row(row)[of]; });
  return order;
}

// Walks the thresholds of one class against the rest: `at(positives, negatives)` with what each
// run of equal scores holds.
template <typename At>
void walk_thresholds(const ClassPredictions& predictions, std::size_t of,
                     const std::vector<std::uint32_t>& order, Weights weights, At at) {
  for (std::size_t i = 0; i < order.size();) {
    const float here = predictions.row(order[i])[of];
    double positives = 0;
    double negatives = 0;
    for (; i < order.size() && predictions.row(order[i])[of] == here; ++i) {
      const double weight = weight_of(weights, order[i]);
      (predictions.truth[order[i]] == of ? positives : negatives) += weight;
    }
    at(positives, negatives);
  }
}

double auc_of(const ClassPredictions& predictions, std::size_t of,
              const std::vector<std::uint32_t>& order, Weights weights) {
  double above = 0;  // positives that score higher than what comes
  double pairs = 0;
  double negatives_seen = 0;
  walk_thresholds(predictions, of, order, weights, [&](double positives, double negatives) {
    pairs += negatives * (above + positives / 2);
    above += positives;
    negatives_seen += negatives;
  });
  return above > 0 && negatives_seen > 0 ? pairs / (above * negatives_seen) : kNaN;
}

double average_precision_of(const ClassPredictions& predictions, std::size_t of,
                            const std::vector<std::uint32_t>& order, Weights weights) {
  double hits = 0;
  double taken = 0;
  double sum = 0;
  walk_thresholds(predictions, of, order, weights, [&](double positives, double negatives) {
    hits += positives;
    taken += positives + negatives;
    if (taken > 0) sum += positives * hits / taken;
  });
  return hits > 0 ? sum / hits : kNaN;
}

// The positive class of two; of more the mean over those that occur, weighted by their share.
template <typename OfClass>
double over_classes(const ClassPredictions& predictions, Weights weights, OfClass of_class) {
  if (predictions.classes == 2) return of_class(1);
  std::vector<double> share(predictions.classes);
  for (std::size_t row = 0; row < predictions.rows(); ++row)
    share[predictions.truth[row]] += weight_of(weights, row);
  double sum = 0;
  double total = 0;
  for (std::size_t c = 0; c < predictions.classes; ++c) {
    if (share[c] == 0) continue;
    sum += share[c] * of_class(c);
    total += share[c];
  }
  return sum / total;
}

template <typename OfRow>
double mean(std::size_t rows, Weights weights, OfRow of_row) {
  double sum = 0;
  double total = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    const double weight = weight_of(weights, row);
    if (weight == 0) continue;
    sum += weight * of_row(row);
    total += weight;
  }
  return sum / total;
}

double f1(const ClassPredictions& predictions, Weights weights) {
  struct Counts {
    double hits = 0;
    double said = 0;
    double there = 0;
  };
  std::vector<Counts> counts(predictions.classes);
  for (std::size_t row = 0; row < predictions.rows(); ++row) {
    const double weight = weight_of(weights, row);
    const std::uint32_t label = predictions.label(row);
    counts[label].said += weight;
    counts[predictions.truth[row]].there += weight;
    if (label == predictions.truth[row]) counts[label].hits += weight;
  }
  const auto of = [](const Counts& c) {
    return c.said + c.there > 0 ? 2 * c.hits / (c.said + c.there) : kNaN;
  };
  if (predictions.classes == 2) return of(counts[1]);
  double sum = 0;
  double present = 0;
  for (const Counts& c : counts) {
    if (c.said + c.there == 0) continue;
    sum += of(c);
    ++present;
  }
  return sum / present;
}

double ece(const ClassPredictions& predictions, Weights weights) {
  struct Bin {
    double weight = 0;
    double confidence = 0;
    double hits = 0;
  };
  std::array<Bin, kCalibrationBins> bins;
  double total = 0;
  for (std::size_t row = 0; row < predictions.rows(); ++row) {
    const std::uint32_t label = predictions.label(row);
    const double confidence = predictions.row(row)[label];
    const auto index = static_cast<std::size_t>(confidence * kCalibrationBins);
    Bin& bin = bins[std::min(index, kCalibrationBins - 1)];
    const double weight = weight_of(weights, row);
    bin.weight += weight;
    bin.confidence += weight * confidence;
    if (label == predictions.truth[row]) bin.hits += weight;
    total += weight;
  }
  double sum = 0;
  for (const Bin& bin : bins) sum += std::abs(bin.hits - bin.confidence);
  return sum / total;
}

double r2(const ValuePredictions& predictions, Weights weights) {
  const double centre =
      mean(predictions.rows(), weights, [&](std::size_t row) { return predictions.truth[row]; });
  double residual = 0;
  double total = 0;
  for (std::size_t row = 0; row < predictions.rows(); ++row) {
    const double weight = weight_of(weights, row);
    residual += weight * std::pow(predictions.truth[row] - predictions.value[row], 2);
    total += weight * std::pow(predictions.truth[row] - centre, 2);
  }
  return total > 0 ? 1 - residual / total : kNaN;
}

}  // namespace

double contribution(Metric metric, const ClassPredictions& predictions, std::size_t row) {
  if (metric == Metric::Accuracy) return predictions.label(row) == predictions.truth[row] ? 1 : 0;
  const double said = predictions.row(row)[predictions.truth[row]];
  return -std::log(std::max(said, kLeastProbability));
}

double contribution(Metric metric, const ValuePredictions& predictions, std::size_t row) {
  if (is_of_lists(metric)) return predictions.value[row];
  const double error = predictions.truth[row] - predictions.value[row];
  return metric == Metric::Mae ? std::abs(error) : error * error;
}

std::string_view to_string(Task task) {
  switch (task) {
    case Task::Binary:
      return "binary";
    case Task::Multiclass:
      return "multiclass";
    case Task::Regression:
      return "regression";
    case Task::Recommendation:
      return "recommendation";
  }
  return "";
}

Result<Task> parse_task(std::string_view text) {
  for (const Task task : {Task::Binary, Task::Multiclass, Task::Regression, Task::Recommendation}) {
    if (text == to_string(task)) return task;
  }
  return fail(
      Code::InvalidArgument,
      fmt::format("'{}' is no task; there are binary, multiclass, regression, recommendation",
                  text));
}

std::span<const MetricInfo> catalogue() { return kCatalogue; }

const MetricInfo& info(Metric metric) {
  return *std::ranges::find(kCatalogue, metric, &MetricInfo::metric);
}

Result<Metric> parse_metric(std::string_view name) {
  const auto found = std::ranges::find(kCatalogue, name, &MetricInfo::name);
  if (found != kCatalogue.end()) return found->metric;
  std::vector<std::string_view> names;
  for (const MetricInfo& known : kCatalogue) names.push_back(known.name);
  return fail(Code::InvalidArgument,
              fmt::format("'{}' is no metric; there are {}", name, fmt::join(names, ", ")));
}

double gain_at_10(Metric metric, std::span<const std::uint8_t> hits, std::size_t held_out) {
  constexpr std::size_t kFirst = 10;
  const auto first = hits.first(std::min(hits.size(), kFirst));
  if (metric == Metric::RecallAt10) {
    const auto found = std::ranges::count_if(first, [](std::uint8_t hit) { return hit != 0; });
    return static_cast<double>(found) / static_cast<double>(held_out);
  }
  const auto discount = [](std::size_t place) {
    return 1 / std::log2(static_cast<double>(place) + 2);
  };
  double gain = 0;
  double best = 0;
  for (std::size_t i = 0; i < first.size(); ++i) gain += first[i] != 0 ? discount(i) : 0;
  for (std::size_t i = 0; i < std::min(held_out, kFirst); ++i) best += discount(i);
  return gain / best;
}

bool fits(Metric metric, Task task) {
  if (is_of_lists(metric) || task == Task::Recommendation)
    return is_of_lists(metric) && task == Task::Recommendation;
  const bool of_values = metric == Metric::Rmse || metric == Metric::Mae || metric == Metric::R2;
  return of_values == (task == Task::Regression);
}

Metric default_metric(Task task) {
  switch (task) {
    case Task::Binary:
      return Metric::Auc;
    case Task::Multiclass:
      return Metric::LogLoss;
    case Task::Regression:
      return Metric::Rmse;
    case Task::Recommendation:
      return Metric::RecallAt10;
  }
  return Metric::LogLoss;
}

Scorer::Scorer(Metric metric, const Predictions& predictions)
    : metric_(metric), predictions_(predictions) {
  if (metric != Metric::Auc && metric != Metric::AveragePrecision) return;
  const auto& some = std::get<ClassPredictions>(predictions);
  orders_.resize(some.classes);
  for (std::size_t c = some.classes == 2 ? 1 : 0; c < some.classes; ++c)
    orders_[c] = by_score(some, c);
}

double Scorer::of_classes(const ClassPredictions& some, Weights weights) const {
  switch (metric_) {
    case Metric::Auc:
      return over_classes(some, weights,
                          [&](std::size_t c) { return auc_of(some, c, orders_[c], weights); });
    case Metric::AveragePrecision:
      return over_classes(some, weights, [&](std::size_t c) {
        return average_precision_of(some, c, orders_[c], weights);
      });
    case Metric::F1:
      return f1(some, weights);
    case Metric::Ece:
      return ece(some, weights);
    default:
      return mean(some.rows(), weights,
                  [&](std::size_t row) { return contribution(metric_, some, row); });
  }
}

double Scorer::operator()(Weights weights) const {
  if (const auto* classes = std::get_if<ClassPredictions>(&predictions_))
    return of_classes(*classes, weights);
  const auto& some = std::get<ValuePredictions>(predictions_);
  if (metric_ == Metric::R2) return r2(some, weights);
  const double plain =
      mean(some.rows(), weights, [&](std::size_t row) { return contribution(metric_, some, row); });
  return metric_ == Metric::Rmse ? std::sqrt(plain) : plain;
}

}  // namespace mayfly::validation
