// Models that are there, over the rows of a split: what they say, how good that is, and what a
// guess would be worth (runner/report/score_job.h has the protocol).
#pragma once

#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/json_reader.h"
#include "runner/onnx_runtime.h"
#include "runner/report/score_job.h"
#include "runner/train/column_model.h"
#include "runner/train/evaluation.h"
#include "runner/train/table.h"
#include "runner/train/target.h"
#include "runner/train/training.h"
#include "validation/predictions.h"

namespace mayfly {

// Rows whose truth is known, as models are judged on them.
struct JudgedRows {
  const TrainTable& table;
  TrainTask task = TrainTask::Binary;
  std::string metric;  // empty: the task's own
  std::uint64_t seed = 0;
  double alpha = Evaluation::kAlpha;
  Target target;
  std::size_t classes = 0;  // of the models; rows may be of one more, which no model knows
  bool has_unknown = false;

  // {"metrics", "confusion", "calibration"}; InvalidArgument: what cannot be predictions.
  Result<Json> judge(Scores scores) const;
  // The rows by the values of a column of categories, the most frequent first.
  struct Slices {
    std::vector<std::string_view> values;
    std::vector<std::int32_t> places;  // of each row among them; -1: not shown
  };
  Result<Slices> slice_by(const std::string& column) const;
  // Of the metric alone.
  Result<Json> judge_slices(const Scores& scores, const Slices& slices) const;
  Result<std::string> metric_name() const;
};

// `classes`: names, of a classification. InvalidArgument (reason invalid_input) says why the rows
// cannot be judged.
Result<JudgedRows> read_judged_rows(const TrainTable& table, const ScoreJob& job,
                                    const ClassNames& classes);
Result<ClassNames> classes_named(const std::vector<std::string>& names, const TrainTable& table,
                                 std::string_view target);

// row.npy; probabilities.npy, value.npy, or cluster.npy and distance.npy; of the rows, in order.
Status write_row_keys(const Path& path, const TrainTable& table,
                      std::span<const std::uint32_t> rows);
// truth.npy and the like: doubles; of lists value.npy, what each is worth.
Status write_numbers(const Path& path, const std::vector<double>& values);
Status write_worth(const Path& folder, const validation::ValuePredictions& worth);
Status write_answer(const Path& folder, TrainTask task, const ModelAnswer& answer);

// Leaves end.json and the result's files in `folders.work`. What the models, the rows or the job
// are to blame for stands in end.json; an error is the machine's or the server's.
Status run_scoring(const OnnxRuntime& runtime, const ScoreJob& job, const TrainFolders& folders);

}  // namespace mayfly
