// What a scoring left of each row (runner/report/score_job.h), as metrics read it. The files come
// out of a jail: lengths, types and values are checked. Blocking.
#pragma once

#include <cstdint>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "runner/report/trainer.h"
#include "validation/predictions.h"

namespace mayfly {

struct ScoreFiles {
  Path truth;
  Path output;  // probabilities.npy of classifications, value.npy of regressions
};
// bad_reply: they are not what a scoring of that task leaves.
Result<validation::Predictions> read_predictions(TrainTask task, std::size_t classes,
                                                 const ScoreFiles& files);

// The rows of each of the column's `values` listed places, of slices/<i>.npy. bad_reply.
Result<std::vector<std::vector<std::uint32_t>>> read_slices(const Path& file, std::size_t values,
                                                            std::size_t rows);

}  // namespace mayfly
