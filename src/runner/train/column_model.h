// A model that others made, asked about rows of a table as serving would ask it: each of its inputs
// is a column, by its name. Its file is foreign bytes, and what it says is checked before it
// counts.
//
//   Input                              takes columns
//   FP32, FP64 [rows] or [rows, 1]     numbers and integers; NaN: missing
//   INT64, INT32                       integers; INT64 dates too, in ms; the smallest: missing
//   BYTES                              categories and texts; empty: missing
//   UINT8, FP32 [rows, h, w, c]        images
//   FP32, FP64 [rows, columns]         as the only input: all numbers and integers, in the schema's
//                                      order, where there are no other columns
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "runner/onnx_runtime.h"
#include "runner/onnx_session.h"
#include "runner/publish_trial.h"
#include "runner/train/graph_session.h"
#include "runner/train/table.h"
#include "runner/train/trainer.h"

namespace mayfly {

// What a model is to say of rows.
struct ModelAsk {
  TrainTask task = TrainTask::Binary;
  std::string target;  // columns that it must not take; of a recommendation, which is asked about
  std::string group;   // users, it takes the group and nothing else
  std::size_t classes = 0;
  std::uint32_t threads = 1;
};

struct ModelAnswer {
  Scores scores;         // probabilities; values; of clusters the distances; of lists each item's
  GraphValues places{};  // labels, clusters, or lists; empty: the model does not say
};

class ColumnModel {
 public:
  // InvalidArgument: a model that cannot be asked this of such a table, in words for who made it.
  // `runtime` outlives me.
  static Result<ColumnModel> open(const OnnxRuntime& runtime, const Path& model,
                                  const TrainTable& table, ModelAsk ask);

  // What it is asked about those rows at once, as serving would ask it.
  Result<TrialTensors> inputs(const TrainTable& table, std::span<const std::uint32_t> rows) const;
  const Signature& signature() const { return session_.signature(); }

  // Of those rows, a piece at a time. InvalidArgument: what it said cannot be.
  Result<ModelAnswer> run(const TrainTable& table, std::span<const std::uint32_t> rows);

 private:
  struct Input {
    std::vector<std::size_t> columns;  // several: of a matrix
    TensorSpec spec;
  };
  struct Output {
    std::string name;
    std::uint32_t index = 0;
    std::size_t width = 1;
  };

  ColumnModel(OnnxSession session, ModelAsk ask)
      : session_(std::move(session)), ask_(std::move(ask)) {}
  Status bind_inputs(const TrainTable& table);
  Result<Input> bind_input(const TrainTable& table, const TensorSpec& spec) const;
  Result<Input> bind_matrix(const TrainTable& table, const TensorSpec& spec) const;
  Status bind_outputs();
  Status run_piece(const TrainTable& table, std::span<const std::uint32_t> rows,
                   ModelAnswer& answer);
  Result<TrialTensor> read(const TrainTable& table, const Input& input, std::uint32_t index,
                           std::span<const std::uint32_t> rows) const;
  Status take(const TrialTensor& said, const Output& output, std::size_t rows,
              ModelAnswer& answer) const;

  OnnxSession session_;
  ModelAsk ask_;
  std::vector<Input> inputs_;
  std::vector<Output> outputs_;
  std::size_t piece_ = 1;  // rows
};

}  // namespace mayfly
