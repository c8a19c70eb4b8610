// How good scores of held-out rows are: by the metrics of validation/, and by what judges rankings
// and clusters.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/json_reader.h"
#include "runner/train/target.h"
#include "runner/train/trainer.h"

namespace mayfly {

class Evaluation {
 public:
  static constexpr double kAlpha = 0.025;

  // `metric`: empty for the task's own: auc, log_loss, rmse; ndcg (of rankings, the first ten) and
  // inertia (of clusters: the mean squared distance) are the only ones of theirs. `truth`: of the
  // held-out rows; outlives me. InvalidArgument lists the metrics that there are for the task.
  static Result<Evaluation> create(TrainTask task, std::string_view metric, const Target& truth,
                                   std::uint32_t classes);

  std::string_view metric() const { return metric_; }
  bool better(double value, double than) const {
    return higher_is_better_ ? value > than : value < than;
  }
  // NaN where the metric has no meaning on these rows.
  Result<double> judge(Scores scores) const;
  // {"auc": {"value", "low", "high"}, …}: of every metric of the task, or of the one alone, with
  // its confidence interval where there is one, each end of which holds with 1 - alpha.
  enum class Which : std::uint8_t { One, All };
  Result<Json> describe(Scores scores, Which which, std::uint64_t seed,
                        double alpha = kAlpha) const;
  // Rows of each class (down) by the class they were given (across); of at most 100 classes.
  Json confusion(const Scores& scores) const;

 private:
  Evaluation(TrainTask task, std::string metric, const Target& truth, std::uint32_t classes)
      : task_(task), metric_(std::move(metric)), truth_(&truth), classes_(classes) {}

  TrainTask task_;
  std::string metric_;
  bool higher_is_better_ = true;
  const Target* truth_;
  std::uint32_t classes_;
};

// Normalised discounted cumulative gain of the first `first` rows of each group (Järvelin &
// Kekäläinen 2002), with gains of 2^label - 1; the mean over groups, of which those without any
// gain count as 1, as XGBoost has it.
double ndcg(std::span<const float> scores, std::span<const float> labels,
            std::span<const std::uint32_t> groups, std::size_t first);

}  // namespace mayfly
