// Rows of a chunk as the body of a request, the body of a reply as rows, and rows as columns of the
// output. No I/O.
#pragma once

#include <arrow/record_batch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runner/batch/table_reader.h"

namespace mayfly {

// Good rows of a chunk, by their place among these.
struct RowRange {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};

struct RequestBody {
  std::string bytes;
  std::uint64_t header = 0;  // of the JSON part; 0: all is one document
};
RequestBody encode_rows(const TableChunk& chunk, const ColumnMap& map, RowRange range);
// Of what encode_rows makes, but for its JSON part.
std::uint64_t row_bytes(const TableChunk& chunk, RowRange range);

// What was predicted for some rows: a column for each output, or documents.
struct PredictedRows {
  std::uint64_t count = 0;
  std::vector<TensorColumn> outputs;
  std::vector<std::string> documents;
};
// bad_reply: it is not what `signature` promises for so many rows.
Result<PredictedRows> decode_rows(std::string_view body, std::uint64_t header,
                                  const Signature& signature, std::uint64_t rows);

// The columns that predictions become.
inline constexpr std::string_view kDocumentColumn = "prediction";
std::vector<KeptField> prediction_fields(const Signature& signature);

// The output of a whole chunk: what was kept, and predictions by their first good row. Rows without
// one have nulls.
Result<std::shared_ptr<arrow::RecordBatch>> output_rows(
    const TableChunk& chunk, const std::map<std::uint64_t, PredictedRows>& predicted,
    const std::vector<KeptField>& fields, const Signature& signature);

}  // namespace mayfly
