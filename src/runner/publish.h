// The publish job, inside its jail: a model's files at `source` become a compiled folder at
// `work`/out and an outcome at `work`/report.json (runner/report/report.h).
//
//   read → check → try → optimise → measure → seal
//
// Each step is told on the control socket as it begins: {"step":"optimise","detail":"onnx, all"}.
// Everything that loads or runs the model does so in a child of its own: a crash or a hang costs
// that child, and the parent says in the report what happened. What kills the parent (memory, time)
// is seen by the server, which names the step it was told last.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "runner/onnx_runtime.h"
#include "runner/report/publish_job.h"
#include "runner/report/report.h"

namespace mayfly {

// The pipeline with its folders and progress as parameters. An Error is a fault of ours or of the
// machine; what is wrong with the model is a Refusal.
using PublishProgress = std::function<void(std::string_view step, std::string_view detail)>;
Result<PublishOutcome> publish_model(const OnnxRuntime& runtime, const PublishJob& job,
                                     const Path& source, const Path& work,
                                     const PublishProgress& progress);

// What the job says of it: a refusal where the artifact is to blame.
Result<PublishOutcome> outcome_of(Result<Report> report);
// The files in `out`, durable.
Result<std::vector<CompiledFile>> seal(const Path& out);

// Entry point of the jail: /source, /work, progress on `control_fd`. Returns the exit code: 0 when
// report.json holds the outcome. Single-threaded; `runtime` was made by the blank.
int run_publish(const OnnxRuntime& runtime, int control_fd, std::string_view request_json);

}  // namespace mayfly
