// The training of a recommendation, from pairs of users and items.
#pragma once

#include <memory>
#include <vector>

#include "runner/train/interactions.h"
#include "runner/train/mf_trainer.h"
#include "runner/train/ranked_lists.h"
#include "runner/train/training.h"

namespace mayfly {

class RecommendTraining final : public Training {
 public:
  // As prepare_training.
  static Result<std::unique_ptr<RecommendTraining>> prepare(const OnnxRuntime& runtime,
                                                            const TrainJob& job,
                                                            const TrainFolders& folders);

  Fit& fit() override { return *trainer_; }
  std::string_view metric() const override { return validation::info(metric_).name; }
  bool better(double value, double than) const override { return value > than; }
  Result<double> judge_valid() override;
  std::uint32_t early_stop() const override { return 0; }
  Result<Json> finish(const Path& output, const Json& history) override;

 private:
  RecommendTraining(const OnnxRuntime& runtime, const TrainJob& job, TrainerParams params,
                    TrainTable valid)
      : runtime_(runtime), job_(job), params_(std::move(params)), valid_(std::move(valid)) {}
  Status read(const TrainTable& train);
  Result<ItemLists> lists_for(std::span<const JudgedUser> users) const;
  Status write_predictions(const Path& output, const ItemLists& lists) const;
  Result<Json> make_and_check(const Path& output);

  const OnnxRuntime& runtime_;
  const TrainJob& job_;
  const TrainerParams params_;
  TrainTable valid_;
  std::uint64_t train_rows_ = 0;
  std::uint64_t left_out_ = 0;  // rows without a user, an item or an amount
  validation::Metric metric_ = validation::Metric::RecallAt10;
  Interactions train_;
  HeldOut held_;
  std::vector<JudgedUser> sample_;  // by whom each round is judged
  std::unique_ptr<MfTrainer> trainer_;
};

}  // namespace mayfly
