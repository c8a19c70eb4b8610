#include "runner/batch/chunk_builder.h"

#include <fmt/format.h>

#include <utility>

#include "base/utf8.h"
#include "core/reason.h"

namespace mayfly {

ChunkBuilder::ChunkBuilder(const ColumnMap& map, const std::vector<FileColumn>& columns,
                           std::size_t rows)
    : map_(map), columns_(columns), errors_(rows), shown_(rows) {
  for (const InputColumns& input : map.inputs)
    fillers_.emplace_back(input.spec.type, input.width, rows);
  if (map.inputs.empty()) documents_.resize(rows);
}

void ChunkBuilder::fail(std::size_t row, std::string error) {
  if (errors_[row].empty()) errors_[row] = std::move(error);
  any_failed_ = true;
}

void ChunkBuilder::put(std::size_t row, std::size_t input, std::size_t element,
                       const CellValue& value) {
  std::string complaint = fillers_[input].put(row, element, value);
  if (complaint.empty()) [[likely]]
    return;
  const InputColumns& columns = map_.inputs[input];
  const std::size_t column = columns.columns[columns.list ? 0 : element];
  fail(row, fmt::format("column '{}': {}", columns_[column].name.substr(0, 100), complaint));
}

void ChunkBuilder::set_document(std::size_t row, std::string document) {
  documents_[row] = std::move(document);
}

TableChunk ChunkBuilder::take(std::uint64_t first_row) {
  TableChunk chunk;
  chunk.first_row = first_row;
  chunk.rows = static_cast<std::uint32_t>(errors_.size());
  for (std::uint32_t row = 0; row < chunk.rows; ++row) {
    if (errors_[row].empty()) {
      chunk.good.push_back(row);
      continue;
    }
    chunk.failures.push_back({.row = row,
                              .reason = std::string(reason::kInvalidInput),
                              .error = to_utf8(errors_[row]),
                              .input = to_utf8(shown_[row].substr(0, kMaxShownRow))});
  }
  for (TensorFiller& filler : fillers_) chunk.inputs.push_back(filler.take(chunk.good));
  if (!documents_.empty()) {
    for (const std::uint32_t row : chunk.good)
      chunk.documents.push_back(std::move(documents_[row]));
  }
  return chunk;
}

}  // namespace mayfly
