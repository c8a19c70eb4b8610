// Rows of a split as requests that a client could send (runner/report/score_job.h): what a version
// is asked in shadow where nobody asks it.
#pragma once

#include <cstdint>

#include "base/file.h"
#include "base/result.h"
#include "runner/train/column_model.h"
#include "runner/train/table.h"

namespace mayfly {

// At most `most` rows, spread evenly over the table, a line each. How many they are: fewer where
// the file would grow too large.
Result<std::uint64_t> write_row_requests(const ColumnModel& model, const TrainTable& table,
                                         std::uint64_t most, const Path& path);

}  // namespace mayfly
