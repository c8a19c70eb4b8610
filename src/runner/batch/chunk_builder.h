// What the readers of all formats do alike: rows that become tensors or documents, or failures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "runner/batch/column_map.h"
#include "runner/batch/table_reader.h"
#include "runner/batch/value.h"

namespace mayfly {

class ChunkBuilder {
 public:
  // `map` and `columns` outlive me.
  ChunkBuilder(const ColumnMap& map, const std::vector<FileColumn>& columns, std::size_t rows);

  std::size_t rows() const { return errors_.size(); }
  bool failed(std::size_t row) const { return !errors_[row].empty(); }
  bool any_failed() const { return any_failed_; }
  // The first complaint about a row stands.
  void fail(std::size_t row, std::string error);
  // One value of input `input`.
  void put(std::size_t row, std::size_t input, std::size_t element, const CellValue& value);
  // The text of a row, for those that failed.
  std::string& shown(std::size_t row) { return shown_[row]; }
  void set_document(std::size_t row, std::string document);

  // `kept` and the position are left to the caller.
  TableChunk take(std::uint64_t first_row);

 private:
  const ColumnMap& map_;
  const std::vector<FileColumn>& columns_;
  std::vector<TensorFiller> fillers_;
  std::vector<std::string> errors_;  // of each row; empty: none
  std::vector<std::string> shown_;
  std::vector<std::string> documents_;
  bool any_failed_ = false;
};

}  // namespace mayfly
