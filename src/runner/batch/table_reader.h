// A file of rows, chunk by chunk, in memory that does not grow with the file.
//
// A row that does not decode is one of its chunk's failures; the others pass. An error of next()
// means that the file cannot be read on; its reason is invalid_input where the file is to blame.
#pragma once

#include <arrow/array.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "runner/batch/column_map.h"
#include "runner/batch/value.h"
#include "runner/report/batch_job.h"

namespace mayfly {

struct RowFailure {
  std::uint32_t row = 0;  // in its chunk
  std::string reason;     // of the catalogue
  std::string error;
  std::string input = {};  // the row as it stands in the file, cut; empty: not known
};
inline constexpr std::size_t kMaxShownRow = 1024;
// Longer rows are refused, and no chunk of text is longer.
inline constexpr std::size_t kMaxBlock = 8 << 20;

// Text: a CSV field. Json: the text of a JSON value. Typed: what its Arrow type says.
enum class KeptKind : std::uint8_t { Text, Json, Typed };
struct KeptField {
  std::string name;
  KeptKind kind = KeptKind::Text;
  std::shared_ptr<arrow::DataType> type;
};

struct TableChunk {
  std::uint64_t first_row = 0;  // of the file, from 0
  std::uint32_t rows = 0;
  std::vector<std::uint32_t> good;                  // the rows that decoded, ascending
  std::vector<TensorColumn> inputs;                 // of the good rows
  std::vector<std::string> documents;               // of the good rows, for functions without types
  std::vector<std::shared_ptr<arrow::Array>> kept;  // of all rows
  std::vector<RowFailure> failures;                 // ascending
  std::string position;                             // behind it: JSON
  std::uint64_t done_bytes = 0;                     // of the file, up to there
};

class RowReader {
 public:
  virtual ~RowReader() = default;
  virtual Result<std::optional<TableChunk>> next() = 0;  // nullopt: the end
  virtual const std::vector<KeptField>& kept() const = 0;
  virtual const ColumnMap& columns() const = 0;
  virtual std::uint64_t total_bytes() const = 0;
};

// The file `job.input` of `folder`, at `job.position`.
Result<std::unique_ptr<RowReader>> open_table(const Path& folder, const BatchJob& job);

// Of each format; open_table is what one calls. `rows`: of a chunk, at most.
Result<std::unique_ptr<RowReader>> open_csv(Fd file, const BatchJob& job, std::uint32_t rows);
Result<std::unique_ptr<RowReader>> open_jsonl(Fd file, const BatchJob& job, std::uint32_t rows);
Result<std::unique_ptr<RowReader>> open_parquet(const Path& file, const BatchJob& job,
                                                std::uint32_t rows);

}  // namespace mayfly
