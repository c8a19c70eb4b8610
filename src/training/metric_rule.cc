#include "training/metric_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "core/reason.h"

namespace mayfly {
namespace {

// Of those whose figures lie between 0 and 1.
constexpr std::array kShares = {"auc", "average_precision", "accuracy",  "f1",
                                "ece", "recall_at_10",      "ndcg_at_10"};

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string_view better(bool higher) { return higher ? "higher" : "lower"; }

}  // namespace

std::optional<validation::Task> judged_as(TrainTask task) {
  switch (task) {
    case TrainTask::Binary:
      return validation::Task::Binary;
    case TrainTask::Multiclass:
      return validation::Task::Multiclass;
    case TrainTask::Regression:
      return validation::Task::Regression;
    case TrainTask::Recommendation:
      return validation::Task::Recommendation;
    case TrainTask::Ranking:
    case TrainTask::Clustering:
      break;
  }
  return std::nullopt;
}

std::string metrics_of(TrainTask task) {
  const auto judged = judged_as(task);
  if (!judged) return task == TrainTask::Ranking ? "ndcg (higher)" : "inertia (lower)";
  std::string names;
  for (const validation::MetricInfo& one : validation::catalogue()) {
    if (!validation::fits(one.metric, *judged)) continue;
    names +=
        fmt::format("{}{} ({})", names.empty() ? "" : ", ", one.name, better(one.higher_is_better));
  }
  return names;
}

Result<MetricRule> metric_rule(TrainTask task, std::string_view name) {
  const auto unknown = [&] {
    return refuse(reason::kBadRequest,
                  fmt::format("'{}' is no metric of {}; there are {}", name.substr(0, 64),
                              to_string(task), metrics_of(task)));
  };
  const auto judged = judged_as(task);
  if (!judged) {
    const bool ranks = task == TrainTask::Ranking;
    const std::string_view only = ranks ? "ndcg" : "inertia";
    if (!name.empty() && name != only) return unknown();
    return MetricRule{.name = std::string(only), .higher_is_better = ranks};
  }
  validation::Metric metric = validation::default_metric(*judged);
  if (!name.empty()) {
    const auto parsed = validation::parse_metric(name);
    if (!parsed || !validation::fits(*parsed, *judged)) return unknown();
    metric = *parsed;
  }
  const validation::MetricInfo& known = validation::info(metric);
  return MetricRule{.name = std::string(known.name),
                    .higher_is_better = known.higher_is_better,
                    .metric = metric};
}

Result<Goal> parse_goal(std::string_view text) {
  const auto bad = [&] {
    return refuse(reason::kBadRequest,
                  fmt::format("'{}' is no goal: write a metric, >= or <=, and a number, as in "
                              "\"auc >= 0.70\"",
                              text.substr(0, 100)));
  };
  const std::size_t sign = text.find_first_of("<>");
  if (sign == std::string_view::npos || sign + 1 >= text.size() || text[sign + 1] != '=')
    return bad();
  Goal goal{.metric = std::string(trimmed(text.substr(0, sign))), .higher = text[sign] == '>'};
  const std::string_view number = trimmed(text.substr(sign + 2));
  const char* last = number.data() + number.size();
  const auto [end, error] = std::from_chars(number.data(), last, goal.at);
  if (goal.metric.empty() || goal.metric.size() > 64 || error != std::errc() || end != last ||
      !std::isfinite(goal.at))
    return bad();
  return goal;
}

std::string to_string(const Goal& goal) {
  return fmt::format("{} {} {}", goal.metric, goal.higher ? ">=" : "<=", goal.at);
}

Status check_goal(const Goal& goal, const MetricRule& rule, TrainTask task) {
  if (!rule.metric) {
    return refuse(reason::kBadRequest, fmt::format("{} has no confidence bounds, so no goal can be "
                                                   "held against it: train {} without a goal",
                                                   rule.name, to_string(task)));
  }
  if (goal.higher != rule.higher_is_better) {
    return refuse(reason::kBadRequest,
                  fmt::format("of {} {} is better: write \"{} {} {}\"", rule.name,
                              better(rule.higher_is_better), rule.name,
                              rule.higher_is_better ? ">=" : "<=", goal.at));
  }
  const bool share = std::ranges::find(kShares, rule.name) != kShares.end();
  const bool possible = rule.name == "r2" ? goal.at < 1
                        : share           ? goal.at > 0 && goal.at < 1
                                          : goal.at > 0;
  if (possible) return {};
  return refuse(reason::kBadRequest,
                fmt::format("{} is never surely {} {}: {}", rule.name, goal.higher ? ">=" : "<=",
                            goal.at, share ? "it lies between 0 and 1" : "no model reaches that"));
}

}  // namespace mayfly
