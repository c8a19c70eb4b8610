// One training, made ready from a snapshot: tables, target, plan, matrices and the trainer on them;
// and what is made of it at its end.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "runner/onnx_runtime.h"
#include "runner/report/train_job.h"
#include "runner/train/evaluation.h"
#include "runner/train/feature_plan.h"
#include "runner/train/learn_task.h"
#include "runner/train/target.h"
#include "runner/train/trained_model.h"
#include "runner/train/trainer.h"

namespace mayfly {

struct TrainFolders {
  Path source = "/source";
  Path work = "/work";
  Path runtime = "/runtime";
};

class Training {
 public:
  // `runtime` and `job` outlive it. An error of reason invalid_input or too_large is the job's or
  // the snapshot's; so is InvalidArgument.
  static Result<std::unique_ptr<Training>> prepare(const OnnxRuntime& runtime, const TrainJob& job,
                                                   const TrainFolders& folders);

  Trainer& trainer() { return *trainer_; }
  const Evaluation& evaluation() const { return *evaluation_; }
  // 0: it goes on to the end.
  std::uint32_t early_stop() const;

  // The rounds that count are set before. Leaves what they are worth in `output`; returns the
  // report's main part. FailedPrecondition (reason parity_failed): the graph says something else
  // than the trainer.
  Result<Json> finish(const Path& output, const Json& history);

 private:
  struct Side {
    TrainTable table;
    Target target;
    std::optional<Matrix> matrix;
    LearnRows rows() const {
      return {.matrix = *matrix, .labels = target.labels, .groups = target.groups};
    }
  };

  Training(const OnnxRuntime& runtime, const TrainJob& job, TrainerParams params, Side train,
           Side valid)
      : runtime_(runtime),
        job_(job),
        params_(std::move(params)),
        train_(std::move(train)),
        valid_(std::move(valid)) {}
  Status read_targets();
  Status make_matrices(const Path& scratch);
  Status write_predictions(const Path& output, const Scores& scores) const;
  Result<Json> write_model(const Path& output);
  Json describe_rows() const;
  Result<Json> describe_importance();

  const OnnxRuntime& runtime_;
  const TrainJob& job_;
  TrainerParams params_;
  Side train_;
  Side valid_;
  ClassNames classes_;
  FeaturePlan plan_;
  std::optional<FeatureGraph> features_;
  std::optional<Evaluation> evaluation_;
  std::unique_ptr<Trainer> trainer_;
};

}  // namespace mayfly
