// Recommenders that are there, over the users of a split (runner/report/score_job.h): what each
// list is worth, and what the most popular items would be.
#pragma once

#include "base/result.h"
#include "runner/onnx_runtime.h"
#include "runner/report/score_job.h"
#include "runner/report/train_job.h"
#include "runner/train/training.h"

namespace mayfly {

// Leaves the result's files in `folders.work`. InvalidArgument (reason invalid_input): a model that
// cannot be asked, or rows that nobody can be judged by.
Result<TrainEnd> score_recommenders(const OnnxRuntime& runtime, const ScoreJob& job,
                                    const TrainFolders& folders);

}  // namespace mayfly
