// Training with a trainer that is built in: values that cross the wall of a slice's jail.
//
//   request          {"train": {…}}: TrainJob
//                    the snapshot lies in /source: schema.json and parts/<number>/{train,valid}/…,
//                    as docs/design/0013-datasets.md says, without a test split; the files of the
//                    last checkpoint, where there is one, in /work/restored
//   worker → server  what a run says (run_job.h): {"progress": …}, {"metric": …} named as the
//                    metric is, and {"checkpoint": "checkpoint-3"}, one at a time
//   server → worker  {"kept": true}, {"kept": false, "error": "…"}; {"stop": true}: end at the next
//                    checkpoint, which comes after the step that is at work; {"due": true}: the
//                    same, once it has worked for as long as it took to begin, so that slices are
//                    never spent on restoring alone
//
// It leaves /work/end.json (TrainEnd). Of one that finished, /work/output holds report.json (what
// was learned, and how well, for people and records; TrainEnd has its main part), predictions.npy
// (of the validation rows, in the table's order) and, where it was asked for, model.onnx.
//
// No I/O here. What comes from a jail is parsed strictly, and its sizes are bounded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "runner/report/report.h"
#include "runner/report/trainer.h"

namespace mayfly {

inline constexpr std::size_t kMaxTrainEnd = 1024 * 1024;

struct TrainJob {
  TrainerKind trainer = TrainerKind::Xgboost;
  std::string function = {};  // of a Function: "mytrainer@3", of its project
  TrainTask task = TrainTask::Binary;
  std::string target = {};                // a column; empty: clusters
  std::string group = {};                 // ranking: rows with the same value belong together
  std::vector<std::string> columns = {};  // to learn from; empty: all others
  std::string positive = {};              // of two classes; empty: the second, as they sort
  Json params = Json::object();           // of the trainer; those that it lacks are standard
  std::string metric = {};                // empty: the task's own
  std::uint64_t seed = 0;
  std::uint32_t threads = 1;                 // of each worker
  std::uint32_t workers = 1;                 // processes that hold a part of the rows each
  Bytes memory = gib(1);                     // of the jail
  std::uint32_t rounds = 0;                  // stop after so many, of all; 0: none
  bool model = true;                         // make one of the result, and check it
  Duration slice = std::chrono::seconds(0);  // end after it; 0: when all is done
  Duration checkpoint_every = std::chrono::seconds(6);
  bool restored = false;
  bool operator==(const TrainJob&) const = default;
};
// That it keeps busy at once.
inline std::uint32_t cpus_of(const TrainJob& job) { return job.threads * job.workers; }
std::string to_json(const TrainJob& job);
// nullopt: the request of another kind of job.
Result<std::optional<TrainJob>> parse_train_job(std::string_view json);

struct TrainEnd {
  enum class How : std::uint8_t { Finished, Stopped, Refused };
  How how = How::Finished;
  std::string result = {};  // JSON
  Refusal refused = {};     // its reason is of the catalogue
  bool operator==(const TrainEnd&) const = default;
};
std::string to_json(const TrainEnd& end);
Result<TrainEnd> parse_train_end(std::string_view json);

}  // namespace mayfly
