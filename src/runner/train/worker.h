// The worker of a training: steps, checkpoints that the server keeps, metrics as they come, an end
// (runner/report/train_job.h has the protocol).
#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "runner/onnx_runtime.h"
#include "runner/report/train_job.h"
#include "runner/train/training.h"

namespace mayfly {

// Leaves end.json and the result's files in `folders.work`. What the snapshot, the job or the model
// is to blame for stands in end.json; an error is the machine's or the server's.
Status run_training(const OnnxRuntime& runtime, int control_fd, const TrainJob& job,
                    const TrainFolders& folders, const Clock& clock);

// Leaves how it ended as end.json: its refusal where the data, the job or the model is to blame. An
// error is the machine's or the server's.
Status leave_end(const Path& work, Result<TrainEnd> end);

}  // namespace mayfly
