#include "runner/batch/table_reader.h"

#include <fcntl.h>
#include <algorithm>

namespace mayfly {
namespace {

// Of functions that are asked row by row few rows wait together.
constexpr std::uint32_t kSingleRows = 64;

}  // namespace

Result<std::unique_ptr<RowReader>> open_table(const Path& folder, const BatchJob& job) {
  const Path path = folder / job.input;
  const bool single = job.signature.inputs.empty() || TRY(rows_per_request(job.signature)) == 1;
  const std::uint32_t rows = single ? std::min(job.chunk_rows, kSingleRows) : job.chunk_rows;
  if (job.format == TableFormat::Parquet) return open_parquet(path, job, rows);
  Fd file = TRY(open_file(path, O_RDONLY));
  return job.format == TableFormat::Csv ? open_csv(std::move(file), job, rows)
                                        : open_jsonl(std::move(file), job, rows);
}

}  // namespace mayfly
