// The model that a training ends with: columns in, `label` and `probabilities`, `value`, or
// `cluster` and `distance` out, all in one graph; and the proof that it says what the trainer says.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/json_reader.h"
#include "runner/onnx_runtime.h"
#include "runner/train/agreement.h"
#include "runner/train/feature_plan.h"
#include "runner/train/target.h"
#include "runner/train/trainer.h"

namespace mayfly {

struct TrainedModel {
  std::string onnx;
  std::vector<std::string> outputs;  // names
};

Result<TrainedModel> make_model(const std::vector<Feature>& features, const ClassNames& classes,
                                Trainer& trainer);

struct TableRows {
  const TrainTable& table;
  std::span<const std::uint32_t> rows;
};

struct ParityParts {
  const OnnxRuntime& runtime;
  TrainTask task;
  const TrainedModel& model;
  const FeatureGraph& features;
  const ClassNames& classes;
  Trainer& trainer;
  TableRows valid;
  TableRows train;
  std::uint64_t seed = 0;
  std::uint32_t threads = 1;
};

// The model as ONNX Runtime runs it against the trainer's own predictions on 1,000 rows and more:
// rows held out, then training rows, then perturbed copies; rows with missing, unknown and extreme
// values. It fails where a label differs, unless two classes are as good as equal (1e-5), or a
// number by more than 1e-5 of its size or of its scale: 1 for probabilities, else the standard
// deviation of the trainer's predictions on training rows.
Result<ParityReport> check_parity(const ParityParts& parts);

}  // namespace mayfly
