// One training, made ready from a snapshot, and what is made of it at its end. TableTraining:
// tables, target, plan, matrices and the trainer on them; of pairs there is recommend_training.h.
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
  virtual ~Training() = default;
  virtual Fit& fit() = 0;
  virtual std::string_view metric() const = 0;
  virtual bool better(double value, double than) const = 0;
  // Of the rows held out from learning, as the fit is now; NaN where that has no meaning.
  virtual Result<double> judge_valid() = 0;
  // 0: it goes on to the end.
  virtual std::uint32_t early_stop() const = 0;

  // The rounds that count are set before. Leaves what they are worth in `output`; returns the
  // report's main part. FailedPrecondition (reason parity_failed): the graph says something else
  // than the trainer.
  virtual Result<Json> finish(const Path& output, const Json& history) = 0;
};

// `runtime` and `job` outlive it. An error of reason invalid_input or too_large is the job's or
// the snapshot's; so is InvalidArgument.
Result<std::unique_ptr<Training>> prepare_training(const OnnxRuntime& runtime, const TrainJob& job,
                                                   const TrainFolders& folders);

// What all reports begin with, and how their files are written.
Json begin_report(const TrainJob& job, const TrainerParams& params);
Status write_report(const Path& output, const Json& report);
Status write_model(const Path& output, std::string_view onnx);
// parity_failed where it has not passed.
Result<Json> passed(const ParityReport& parity);

class TableTraining final : public Training {
 public:
  static Result<std::unique_ptr<TableTraining>> prepare(const OnnxRuntime& runtime,
                                                        const TrainJob& job,
                                                        const TrainFolders& folders);

  Fit& fit() override { return *trainer_; }
  std::string_view metric() const override { return evaluation_->metric(); }
  bool better(double value, double than) const override { return evaluation_->better(value, than); }
  Result<double> judge_valid() override;
  std::uint32_t early_stop() const override;
  Result<Json> finish(const Path& output, const Json& history) override;

 private:
  struct Side {
    TrainTable table;
    Target target;
    std::optional<Matrix> matrix;
    LearnRows rows() const {
      return {.matrix = *matrix, .labels = target.labels, .groups = target.groups};
    }
  };

  TableTraining(const OnnxRuntime& runtime, const TrainJob& job, TrainerParams params, Side train,
                Side valid)
      : runtime_(runtime),
        job_(job),
        params_(std::move(params)),
        train_(std::move(train)),
        valid_(std::move(valid)) {}
  Status read_targets();
  Status make_matrices(const Path& scratch);
  Status write_predictions(const Path& output, const Scores& scores) const;
  Result<Json> make_and_check(const Path& output);
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
