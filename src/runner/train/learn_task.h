// What a training is asked, found in its snapshot: targets, classes, columns to learn from.
#pragma once

#include <cstddef>
#include <vector>

#include "base/result.h"
#include "runner/report/train_job.h"
#include "runner/train/table.h"
#include "runner/train/target.h"

namespace mayfly {

struct LearnTargets {
  ClassNames classes;  // of classifications
  Target train;
  Target valid;
};
// InvalidArgument (reason invalid_input) says what the snapshot or the job lacks.
Result<LearnTargets> read_targets(const TrainJob& job, const TrainTable& train,
                                  const TrainTable& valid);

// All that were asked for, or that there are: never target and group. Refused are those that the
// trainer cannot take.
Result<std::vector<std::size_t>> feature_columns(const TrainJob& job, const TrainTable& table);

}  // namespace mayfly
