#include "runner/train/trainer.h"

namespace mayfly {

Result<std::unique_ptr<Trainer>> make_trainer(TrainerKind kind, const TrainerSetup& setup,
                                              const LearnRows& train, const LearnRows& valid) {
  switch (kind) {
    case TrainerKind::Xgboost:
      return make_xgboost(setup, train, valid);
    case TrainerKind::Linear:
      return make_linear(setup, train, valid);
    case TrainerKind::Kmeans:
      return make_kmeans(setup, train, valid);
    case TrainerKind::Mf:  // learns from no matrix
    case TrainerKind::Cnn:
    case TrainerKind::Function:
      break;
  }
  return fail(Code::InvalidArgument, "no trainer of a matrix that is built in");
}

PlanOptions plan_options(TrainerKind kind, const TrainerParams& params) {
  // Trees take values as they are, and send missing ones where they do best.
  const bool trees = kind == TrainerKind::Xgboost;
  return {.scaled = !trees,
          .one_hot = params.integer("one_hot"),
          .ranks = trees,
          .text_words = params.integer("text_words"),
          .text_pairs = params.integer("text_pairs")};
}

}  // namespace mayfly
