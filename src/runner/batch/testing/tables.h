// Files of rows for tests, and what was read of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "runner/batch/table_reader.h"
#include "runner/report/batch_job.h"

namespace mayfly {

// FP32 x [-1,2] → FP32 y [-1].
BatchJob pair_job(TableFormat format);

// The folder's file of the job's input.
void write_input(const Path& folder, const BatchJob& job, std::string_view text);
// Columns a and b (FP32: row, row + 0.5), text id ("r0"), list x of both; in groups of so many
// rows.
void write_parquet(const Path& folder, const BatchJob& job, std::int64_t rows, std::int64_t group);

// Two rows of a day (a date) and an instant (microseconds): 2026-01-31, the same at 00:00:00.5;
// 1969-12-31, a microsecond before 1970.
void write_parquet_dates(const Path& folder, const BatchJob& job);

struct ReadTable {
  std::vector<TableChunk> chunks;
  std::uint64_t rows = 0;
  std::vector<float> floats;          // of the first input's good rows
  std::vector<std::string> failures;  // "3: why"; rows from 1
  std::vector<std::string> failed_text;
};
Result<ReadTable> read_table(const Path& folder, const BatchJob& job);

std::string text_of_file(const Path& path);

}  // namespace mayfly
