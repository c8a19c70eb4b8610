// A trainer at work: a kept library behind steps, checkpoints, predictions and an export. What each
// can do stands in runner/report/trainer.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"
#include "runner/report/trainer.h"
#include "runner/train/feature_plan.h"
#include "runner/train/fit.h"
#include "runner/train/onnx_graph.h"

namespace mayfly {

// Rows with what is to be learned of them. All outlive the trainer.
struct LearnRows {
  const Matrix& matrix;
  std::span<const float> labels;          // a class's place, or a value; empty: clusters
  std::span<const std::uint32_t> groups;  // ranking: rows of each group, in their order
};

struct TrainerSetup {
  TrainTask task = TrainTask::Binary;
  std::uint32_t classes = 0;
  TrainerParams params;
  std::uint64_t seed = 0;
  std::uint32_t threads = 1;  // of each worker
  std::uint32_t workers = 1;
  Bytes memory{};  // that the process may take
  Path scratch;    // for files of its own
  Path runtime;    // where its library lies
};

// By row, `width` each: probabilities of classes; a value; distances to the clusters.
struct Scores {
  std::size_t width = 1;
  std::vector<float> values;

  std::size_t rows() const { return values.size() / width; }
  std::span<const float> row(std::size_t index) const {
    return std::span(values).subspan(index * width, width);
  }
};

// Names of a graph's values; empty: it has none.
struct ModelNodes {
  std::string probabilities;
  std::string value;
  std::string cluster;
  std::string distance;
};

class Trainer : public Fit {
 public:
  // Of the rows held out from learning, as they are scored now: by the rounds that count.
  virtual Result<Scores> score_valid() = 0;
  // Of any rows of the matrix that it learned from, by the library itself.
  virtual Result<Scores> score(std::span<const float> rows) = 0;
  virtual Result<ModelNodes> add_to(OnnxGraph& graph, const std::string& features) = 0;
  // How much each feature counts, in no particular unit; empty: it does not say.
  virtual Result<std::vector<double>> importance() = 0;
};

// InvalidArgument (reason invalid_input): rows that it cannot learn from.
Result<std::unique_ptr<Trainer>> make_xgboost(const TrainerSetup& setup, const LearnRows& train,
                                              const LearnRows& valid);
Result<std::unique_ptr<Trainer>> make_linear(const TrainerSetup& setup, const LearnRows& train,
                                             const LearnRows& valid);
Result<std::unique_ptr<Trainer>> make_kmeans(const TrainerSetup& setup, const LearnRows& train,
                                             const LearnRows& valid);
Result<std::unique_ptr<Trainer>> make_trainer(TrainerKind kind, const TrainerSetup& setup,
                                              const LearnRows& train, const LearnRows& valid);
// What it wants of the plan of its matrix.
PlanOptions plan_options(TrainerKind kind, const TrainerParams& params);

}  // namespace mayfly
