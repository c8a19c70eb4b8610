// Rows that are to go, as a file names them: a row goes that has, in all columns which the file
// has, the values of one of its lines. So a file of one column names customers, and one of all
// columns whole rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "runner/ingest/conversion.h"
#include "runner/ingest/row_source.h"
#include "runner/report/dataset_schema.h"
#include "runner/report/ingest_job.h"

namespace mayfly {

class RowRemoval {
 public:
  // `schema` outlives me.
  explicit RowRemoval(const DatasetSchema& schema) : schema_(schema) {}

  // The lines of one file; each has the same columns. invalid_input: a line that cannot be read, or
  // names nothing; too_large: they are more than fit into memory. An erasure leaves nothing out.
  Status read(RowSource& source, const IngestSource& of, const std::vector<std::string>& missing);
  // `values`: one for each column of the schema.
  bool removes(const std::vector<ColumnValues>& values, std::size_t row);

  std::uint64_t lines() const { return lines_.size() + strangers_; }
  std::uint64_t unmatched() const;  // of them, that removed nothing

 private:
  Status find_columns(const RowSource& source, const IngestSource& of);
  Status read_block(const SourceBlock& block, const RowSource& source, const IngestSource& of,
                    const std::vector<std::string>& missing);
  Status add_line(const std::vector<ColumnValues>& values, std::size_t row, const SourceRow& at,
                  const IngestSource& of);

  const DatasetSchema& schema_;
  std::vector<std::size_t> columns_;             // of the schema, that lines have, ascending
  std::unordered_map<std::string, bool> lines_;  // canonical values: whether they removed a row
  std::size_t bytes_ = 0;
  std::uint64_t strangers_ = 0;  // lines with a category that no row has
  std::string scratch_;
};

}  // namespace mayfly
