// What stands before and behind the train(ctx) of a Python function, in jails that its code never
// enters (runner/report/function_training.h has the protocol).
#pragma once

#include "base/result.h"
#include "runner/onnx_runtime.h"
#include "runner/report/train_job.h"
#include "runner/train/training.h"

namespace mayfly {

// Leaves facts.json and parity/ in `folders.work`/output.
Status run_function_facts(const TrainJob& job, const TrainFolders& folders);

// What the function made lies in `folders.source`/made, and what stood before it in …/given. Leaves
// what built-in trainers leave.
Status run_function_check(const OnnxRuntime& runtime, const TrainJob& job,
                          const TrainFolders& folders);

}  // namespace mayfly
