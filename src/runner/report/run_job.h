// Runs of a Python function's run(inputs, ctx): values that cross the wall of such a job's jail.
//
//   request          {"run": {"inputs": …, "threads": 2, "restored": true, "invocation": "…"}}
//                    the function lies in /source as an artifact, the last checkpoint's files in
//                    /work/restored
//   worker → server  {"progress": {"fraction": 0.25, "text": "epoch 3 of 12"}}
//                    {"metric": {"name": "loss", "value": 0.31}}
//                    {"checkpoint": "checkpoint-3"}: the files of /work/checkpoint-3 shall be kept
//   server → worker  {"kept": true}, {"kept": false, "error": "…"}; {"stop": true}: end at the next
//                    checkpoint
//
// It leaves /work/end.json, {"result": …}, {"stopped": true} after a checkpoint, or {"error": "…"};
// and files of its result in /work/output.
//
// No I/O here. What comes from a jail is parsed strictly, and its sizes are bounded.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"

namespace mayfly {

inline constexpr std::size_t kMaxRunInputs = 48 * 1024;
inline constexpr std::size_t kMaxRunEnd = 1024 * 1024;

struct RunJob {
  std::string inputs = "{}";  // JSON
  std::uint32_t threads = 1;
  bool restored = false;
  std::string invocation;
  bool operator==(const RunJob&) const = default;
};
std::string to_json(const RunJob& job);
// nullopt: the request of another kind of job.
Result<std::optional<RunJob>> parse_run_job(std::string_view json);

struct RunProgress {
  double fraction = -1;  // 0 to 1; below: unknown
  std::string text;
  bool operator==(const RunProgress&) const = default;
};
struct RunMetric {
  std::string name;
  double value = 0;
  bool operator==(const RunMetric&) const = default;
};
struct RunCheckpoint {
  std::string folder;  // a plain name
  bool operator==(const RunCheckpoint&) const = default;
};
using RunMessage = std::variant<RunProgress, RunMetric, RunCheckpoint>;
Result<RunMessage> parse_run_message(std::string_view text);

struct RunEnd {
  enum class How : std::uint8_t { Finished, Stopped, Raised };
  How how = How::Finished;
  std::string result;  // JSON
  std::string error;
  bool operator==(const RunEnd&) const = default;
};
Result<RunEnd> parse_run_end(std::string_view json);

}  // namespace mayfly
