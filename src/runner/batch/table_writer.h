// Rows of output, as a file of its format. Memory does not grow with the file.
//
// CSV and JSON lines are written as text: a list of fixed length becomes columns NAME_0, NAME_1, …
// in CSV, other lists and JSON one column of JSON text. Parquet has Arrow's types, in row groups of
// bounded size, compressed with zstd.
#pragma once

#include <arrow/record_batch.h>

#include <memory>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "runner/batch/table_reader.h"
#include "runner/report/batch_job.h"

namespace mayfly {

class TableWriter {
 public:
  virtual ~TableWriter() = default;
  // Of the fields' types, in their order.
  virtual Status write(const arrow::RecordBatch& batch) = 0;
  // The file is whole. Without it what was written is lost.
  virtual Status close() = 0;
};

// Refused: two columns of one name.
Result<std::unique_ptr<TableWriter>> create_table(const Path& path, TableFormat format,
                                                  const std::vector<KeptField>& fields);

std::shared_ptr<arrow::Schema> schema_of(const std::vector<KeptField>& fields);

// Of each format; create_table is what one calls.
Result<std::unique_ptr<TableWriter>> create_text(Fd file, TableFormat format,
                                                 std::vector<KeptField> fields);
Result<std::unique_ptr<TableWriter>> create_parquet(const Path& path,
                                                    const std::shared_ptr<arrow::Schema>& schema);

}  // namespace mayfly
