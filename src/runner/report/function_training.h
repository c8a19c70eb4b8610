// A training by the train(ctx) of a Python function: three jails, one after the other, and what
// passes through their walls. The middle one runs foreign code; the other two only read what it
// left.
//
//   facts   request {"train_facts": {…}}: TrainJob; /source as of a training (train_job.h)
//           leaves /work/output/facts.json:
//             {"classes": ["bad", "good"] | [3, 5] | null, "columns": ["age", …],
//              "train_rows": n, "valid_rows": n}
//           and /work/output/parity/, a snapshot whose one split "parity" has the rows that are
//           asked afterwards, without the target
//   train   request {"train_function": {"train": {…}, "restored": false, "invocation": "…"}};
//           the function lies in /source as an artifact, the snapshot (no test split), facts.json
//           and parity/ in /data; otherwise as a run (run_job.h)
//           leaves /work/end.json, {"result": {}}, {"stopped": true} or {"error": "…"}, and
//           /work/made/: model.onnx, and what the callable said of the parity rows:
//           probabilities.npy | value.npy | cluster.npy and distance.npy
//   check   request {"train_check": {…}}: TrainJob; /source as of a training, with given/ (what the
//           first left) and made/ (the second)
//           leaves what a built-in trainer leaves (train_job.h)
//
// No I/O here.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "runner/report/train_job.h"

namespace mayfly {

inline constexpr std::uint64_t kMaxMadeModel = std::uint64_t{2} << 30;

enum class FunctionStep : std::uint8_t { Facts, Check };
std::string to_json(FunctionStep step, const TrainJob& job);

struct FunctionStepJob {
  FunctionStep step = FunctionStep::Facts;
  TrainJob job;
};
// nullopt: the request of another kind of job.
Result<std::optional<FunctionStepJob>> parse_function_step(std::string_view json);

struct TrainFunctionJob {
  TrainJob job;  // its function, its threads and whether something is restored are the jail's too
  std::string invocation;
  bool operator==(const TrainFunctionJob&) const = default;
};
std::string to_json(const TrainFunctionJob& job);
Result<std::optional<TrainFunctionJob>> parse_train_function_job(std::string_view json);

}  // namespace mayfly
