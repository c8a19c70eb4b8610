// Models that are there, over the rows of a split: values that cross the wall of such a job's jail.
//
//   request   {"score": {…}}: ScoreJob
//             of the snapshot /source has schema.json and parts/<number>/<split>/…, as
//             docs/design/0013-datasets.md says, of the split that was asked for and no other; of
//             the training split, where that is another, row.npy and the columns of `guessed_by`
//             alone, which baselines are fitted on. The models are /source/models/<name>.onnx.
//
// It leaves /work/end.json, which is a TrainEnd (train_job.h) that has not stopped: its result is
//
//   {"split": "test", "task": "binary", "metric": "auc", "rows": 1000, "without_target": 3,
//    "alpha": 0.025,
//    "models": {"m0": {"metrics": {"auc": {"value": 0.8, "low": 0.75, "high": 0.84}, …},
//                      "confusion": [[90, 10], …], "calibration": {"ece": 0.02, "bins": [
//                        {"low", "high", "rows", "confidence", "accuracy"}, …]},
//                      "slices": {"sex": [{"value": "male", "rows": 700, "metric": {"value", …}},
//                                 …]}}},
//    "baselines": {"majority": {"metrics": {…}}, "last_value": {"metrics": {…}}}}
//
// and the files of /work/output: row.npy, the rows' keys, in whose order all others are; truth.npy,
// places among `classes` or values, where there is a target; of each model <name>/ with
// probabilities.npy, value.npy, or cluster.npy and distance.npy.
//
// Of recommendations "rows" are users, each with the key of one of his rows: those who have items
// in the split that they do not have in training rows. truth.npy is how many, value.npy what the
// model's list is worth by the metric.
// Of each column i of `slices` there is slices/<i>.npy, too: of each row the place of its value in
// the column's list, -1 where that is not listed.
//
// With `requests` nothing is scored, and the split comes without the target's column. What is left
// is output/requests.jsonl: so many rows, spread evenly over the split, each a line, a request of
// the first model in the Open Inference Protocol; and the result is {"requests": 500}. A row that
// is too large for a line of kMostRowRequest bytes is left out.
//
// Each end of an interval holds by itself with probability 1 - alpha. Calibration stands there of
// classifications only, slices where some were asked for. Baselines: "majority" (of
// classifications: the classes' shares of the training rows), "mean" (of regressions: the mean of
// the training rows), "last_value" (where rows have an event time: what the row before had),
// "popular" (of recommendations: the most frequent items that a user has not).
//
// No I/O here. What comes from a jail is parsed strictly, and its sizes are bounded.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "runner/report/split.h"
#include "runner/report/train_job.h"
#include "runner/report/trainer.h"

namespace mayfly {

inline constexpr std::size_t kMostScoredModels = 8;
inline constexpr std::size_t kMostScoredSlices = 20;  // columns
inline constexpr std::uint64_t kMostRowRequests = 10'000;
inline constexpr std::size_t kMostRowRequest = std::size_t{64} << 10;    // bytes of a line
inline constexpr std::size_t kMostRequestsFile = std::size_t{32} << 20;  // all of them

struct ScoreJob {
  std::vector<std::string> models = {"m0"};  // plain names; the job's inputs are <name>.onnx
  Split split = Split::Valid;
  TrainTask task = TrainTask::Binary;
  std::string target = {};    // a column; empty: clusters
  std::string positive = {};  // of two classes: the second of `classes`; empty: as they stand
  std::string group = {};     // ranking; of recommendations the users
  // Of classifications: names in the order of the models' probabilities, as report.json has them.
  std::vector<std::string> classes = {};
  std::string metric = {};  // empty: the task's own
  std::uint64_t seed = 0;
  double alpha = 0.025;
  std::vector<std::string> slices = {};  // columns of categories
  std::uint64_t requests = 0;            // more than 0: rows that are left as requests
  std::uint32_t threads = 1;             // the slice's to say, as is the memory
  Bytes memory = gib(1);
  bool operator==(const ScoreJob&) const = default;
};
std::string to_json(const ScoreJob& job);
// The target; of recommendations the users, too.
std::vector<std::string> guessed_by(const ScoreJob& job);
// nullopt: the request of another kind of job.
Result<std::optional<ScoreJob>> parse_score_job(std::string_view json);

// What is said of a model's or a baseline's metric; `low` and `high` are absent where there is no
// interval, `value` where the metric has no meaning on these rows.
struct ScoredMetric {
  std::optional<double> value = {}, low = {}, high = {};
  bool operator==(const ScoredMetric&) const = default;
};
using ScoredMetrics = std::map<std::string, ScoredMetric, std::less<>>;  // by name

struct SliceScore {
  std::string column, value;
  std::uint64_t rows = 0;
  ScoredMetric metric;
  bool operator==(const SliceScore&) const = default;
};

struct ModelScore {
  ScoredMetrics metrics;
  std::vector<SliceScore> slices;
  bool operator==(const ModelScore&) const = default;
};

// The part of a result that is decided by. Confusion and calibration are for people, who read the
// JSON itself.
struct ScoreResult {
  Split split = Split::Valid;
  std::string metric;
  std::uint64_t rows = 0;
  double alpha = 0.025;
  std::map<std::string, ModelScore, std::less<>> models;
  std::map<std::string, ScoredMetrics, std::less<>> baselines;
  bool operator==(const ScoreResult&) const = default;
};
// What is no result of this job is refused: other models, figures that are no numbers.
Result<ScoreResult> parse_score_result(std::string_view json, const ScoreJob& job);

// Of a job with `requests`: how many there are.
Result<std::uint64_t> parse_requests_result(std::string_view json, const ScoreJob& job);

}  // namespace mayfly
