// How a training is judged: one metric, which way is better, and a goal that is held against it.
// Values only.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "runner/report/trainer.h"
#include "validation/interval.h"
#include "validation/metric.h"

namespace mayfly {

std::optional<validation::Task> judged_as(TrainTask task);  // none of rankings and clusters

struct MetricRule {
  std::string name;
  bool higher_is_better = true;
  std::optional<validation::Metric> metric = {};  // with bounds; not of rankings and clusters
};
// Empty: the task's own. bad_request lists what there is, with directions.
Result<MetricRule> metric_rule(TrainTask task, std::string_view name);
// "auc (higher), log_loss (lower)"
std::string metrics_of(TrainTask task);

struct Goal {
  std::string metric;
  double at = 0;
  bool higher = true;  // at least; else at most
  bool operator==(const Goal&) const = default;
};
// "auc >= 0.70", "rmse <= 3". bad_request for what is none.
Result<Goal> parse_goal(std::string_view text);
std::string to_string(const Goal& goal);
// bad_request: the wrong direction, a figure that can never be, a metric without bounds.
Status check_goal(const Goal& goal, const MetricRule& rule, TrainTask task);

}  // namespace mayfly
