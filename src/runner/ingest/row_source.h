// Rows of a foreign file, a block at a time, in memory that does not grow with the file. Each
// format is a source of its own; what the file is to blame for has the reason invalid_input.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "runner/ingest/cell.h"
#include "runner/report/ingest_job.h"

namespace mayfly {

inline constexpr std::size_t kBlockRows = 8192;
inline constexpr std::size_t kBlockCells = std::size_t{256} << 10U;
inline constexpr std::size_t kMaxTextBlock = std::size_t{8} << 20U;  // and so is a row, at most

// A column as the file declares it; most declare no type.
struct SourceColumn {
  std::string name;
  std::optional<ColumnType> type = {};
  std::vector<std::string> categories = {};  // in their declared order
  std::vector<std::uint32_t> shape = {};     // of an image: its cells are Texts of its bytes
};

struct SourceRow {
  std::uint64_t row = 0;   // in the file, from 1
  std::uint64_t line = 0;  // from 1; 0: the format has none
};

// Rows that could be read, column by column; and beside them those that could not.
struct SourceBlock {
  std::vector<SourceRow> rows;
  std::vector<std::vector<Cell>> columns;  // of each, as many cells as there are rows
  struct Failure {
    SourceRow at;
    std::string error;
    std::string input;
  };
  std::vector<Failure> failures;

  void clear(std::size_t width) {
    rows.clear();
    failures.clear();
    columns.resize(width);
    for (auto& column : columns) column.clear();
  }
};

class RowSource {
 public:
  virtual ~RowSource() = default;
  // What its header says; of JSON lines it grows while they are read.
  virtual const std::vector<SourceColumn>& columns() const = 0;
  // The next rows. false: there are none. Texts are valid until the next call.
  virtual Result<bool> next(SourceBlock& block) = 0;
  virtual std::uint64_t done_bytes() const = 0;
  virtual std::uint64_t total_bytes() const = 0;
};

Result<std::unique_ptr<RowSource>> open_source(const Path& file, const IngestOptions& options);

// Of each format; open_source is what one calls.
Result<std::unique_ptr<RowSource>> open_csv_source(const Path& file, std::optional<char> delimiter);
Result<std::unique_ptr<RowSource>> open_jsonl_source(const Path& file);
Result<std::unique_ptr<RowSource>> open_parquet_source(const Path& file);
Result<std::unique_ptr<RowSource>> open_arff_source(const Path& file);
// Arrays of as many rows: one of two dimensions is so many columns, one of bytes with three or four
// is images.
Result<std::unique_ptr<RowSource>> open_npz_source(const Path& file);
// A zip of PNG and JPEG files, a folder a class. `shape`: empty: that of the first one.
Result<std::unique_ptr<RowSource>> open_image_source(const Path& file,
                                                     std::vector<std::uint32_t> shape);
// The rows of a snapshot's parts (docs/design/0013-datasets.md), by the folder that has them by
// number: part after part, split after split. `schema` outlives it. DataLoss: files that are not
// what the schema says.
Result<std::unique_ptr<RowSource>> open_part_source(const Path& folder,
                                                    const DatasetSchema& schema);

// As many rows of so many columns as a block holds.
std::size_t rows_of_block(std::size_t columns);
// A file's column names: none is empty, none there twice, and not too many.
Status settle_names(std::vector<SourceColumn>& columns);

}  // namespace mayfly
