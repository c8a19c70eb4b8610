#include "runner/train/evaluation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "core/reason.h"
#include "validation/interval.h"
#include "validation/metric.h"

namespace mayfly {
namespace {

constexpr std::size_t kRanked = 10;
constexpr std::uint32_t kMostConfused = 100;

std::optional<validation::Task> judged_as(TrainTask task) {
  switch (task) {
    case TrainTask::Binary:
      return validation::Task::Binary;
    case TrainTask::Multiclass:
      return validation::Task::Multiclass;
    case TrainTask::Regression:
      return validation::Task::Regression;
    case TrainTask::Ranking:
    case TrainTask::Clustering:
    case TrainTask::Recommendation:  // its lists are judged by themselves (ranked_lists.h)
      break;
  }
  return std::nullopt;
}

std::string names_for(validation::Task task) {
  std::string names;
  for (const auto& one : validation::catalogue()) {
    if (validation::fits(one.metric, task))
      names += fmt::format("{}{}", names.empty() ? "" : ", ", one.name);
  }
  return names;
}

validation::Predictions predictions_of(Scores scores, const Target& truth, std::uint32_t classes) {
  if (classes == 0) {
    return validation::ValuePredictions{.truth = {truth.labels.begin(), truth.labels.end()},
                                        .value = {scores.values.begin(), scores.values.end()}};
  }
  validation::ClassPredictions some{
      .classes = classes, .truth = {}, .probabilities = std::move(scores.values)};
  for (const float label : truth.labels) some.truth.push_back(static_cast<std::uint32_t>(label));
  return some;
}

double inertia(const Scores& scores) {
  double sum = 0;
  for (std::size_t row = 0; row < scores.rows(); ++row) {
    const auto distance = static_cast<double>(std::ranges::min(scores.row(row)));
    sum += distance * distance;
  }
  return scores.rows() == 0 ? std::numeric_limits<double>::quiet_NaN()
                            : sum / static_cast<double>(scores.rows());
}

double gain_at(float label, std::size_t place) {
  return (std::exp2(static_cast<double>(label)) - 1) / std::log2(static_cast<double>(place) + 2);
}

}  // namespace

double ndcg(std::span<const float> scores, std::span<const float> labels,
            std::span<const std::uint32_t> groups, std::size_t first) {
  double sum = 0;
  std::size_t at = 0;
  for (const std::uint32_t size : groups) {
    std::vector<std::size_t> order(size);
    for (std::size_t i = 0; i < size; ++i) order[i] = at + i;
    double found = 0;
    double best = 0;
    // The best first; of equals, the one that came first.
    std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(-scores[i], i); });
    for (std::size_t i = 0; i < std::min<std::size_t>(first, size); ++i)
      found += gain_at(labels[order[i]], i);
    std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(-labels[i], i); });
    for (std::size_t i = 0; i < std::min<std::size_t>(first, size); ++i)
      best += gain_at(labels[order[i]], i);
    sum += best > 0 ? found / best : 1;
    at += size;
  }
  return groups.empty() ? std::numeric_limits<double>::quiet_NaN()
                        : sum / static_cast<double>(groups.size());
}

Result<Evaluation> Evaluation::create(TrainTask task, std::string_view metric, const Target& truth,
                                      std::uint32_t classes) {
  const auto judged = judged_as(task);
  if (!judged) {
    const std::string_view only = task == TrainTask::Ranking ? "ndcg" : "inertia";
    if (!metric.empty() && metric != only)
      return refuse(reason::kInvalidInput,
                    fmt::format("the metric of {} is {}, not '{}'", to_string(task), only, metric));
    Evaluation evaluation(task, std::string(only), truth, classes);
    evaluation.higher_is_better_ = task == TrainTask::Ranking;
    return evaluation;
  }
  validation::Metric chosen = validation::default_metric(*judged);
  if (!metric.empty()) {
    const auto parsed = validation::parse_metric(metric);
    if (!parsed || !validation::fits(*parsed, *judged))
      return refuse(reason::kInvalidInput,
                    fmt::format("'{}' is no metric of {}; there are {}", metric, to_string(task),
                                names_for(*judged)));
    chosen = *parsed;
  }
  const auto& known = validation::info(chosen);
  Evaluation evaluation(task, std::string(known.name), truth, classes);
  evaluation.higher_is_better_ = known.higher_is_better;
  return evaluation;
}

Result<double> Evaluation::judge(Scores scores) const {
  if (task_ == TrainTask::Clustering) return inertia(scores);
  if (task_ == TrainTask::Ranking)
    return ndcg(scores.values, truth_->labels, truth_->groups, kRanked);
  const auto predictions = predictions_of(std::move(scores), *truth_, classes_);
  TRY(validation::check(predictions));
  const auto metric = TRY(validation::parse_metric(metric_));
  return validation::score(metric, predictions);
}

Result<Json> Evaluation::describe(Scores scores, Which which, std::uint64_t seed,
                                  double alpha) const {
  const auto judged = judged_as(task_);
  if (!judged) {
    const double value = TRY(judge(std::move(scores)));
    return Json{{metric_, {{"value", value}}}};
  }
  const auto predictions = predictions_of(std::move(scores), *truth_, classes_);
  TRY(validation::check(predictions));
  Json json = Json::object();
  for (const auto& one : validation::catalogue()) {
    if (!validation::fits(one.metric, *judged)) continue;
    if (which == Which::One && one.name != metric_) continue;
    const auto found = validation::interval(one.metric, predictions, alpha, seed);
    json[std::string(one.name)] =
        Json{{"value", found.estimate}, {"low", found.low}, {"high", found.high}};
  }
  return json;
}

Json Evaluation::confusion(const Scores& scores) const {
  if (classes_ == 0 || classes_ > kMostConfused) return Json();
  std::vector<std::vector<std::uint64_t>> counts(classes_, std::vector<std::uint64_t>(classes_));
  for (std::size_t row = 0; row < scores.rows(); ++row) {
    const auto values = scores.row(row);
    const auto given = static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
    ++counts[static_cast<std::size_t>(truth_->labels[row])][given];
  }
  return counts;
}

}  // namespace mayfly
