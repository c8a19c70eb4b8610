// Cells → values of a column's type, as a part keeps them (docs/design/0013-datasets.md). No I/O.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runner/ingest/cell.h"
#include "runner/report/dataset_schema.h"

namespace mayfly {

inline constexpr std::int64_t kMissingInteger = INT64_MIN;
inline constexpr std::int32_t kMissingCode = -1;

// A block's values of one column; what is of its type is filled, and has one entry a row.
struct ColumnValues {
  ColumnType type = ColumnType::Number;
  std::vector<double> numbers;          // Number; NaN: missing
  std::vector<std::int64_t> integers;   // Integer, Date
  std::vector<std::int32_t> codes;      // Category
  std::vector<std::string_view> texts;  // Text, Image, Category: as long as the cells live

  bool missing(std::size_t row) const;
  // The value's bytes, the same whatever type a column of such values has: 5 is 5.0, and a category
  // is its text. Of what makes up a row's hash.
  void append_canonical(std::string& out, std::size_t row) const;
};

class ColumnConverter {
 public:
  // Both outlive me.
  ColumnConverter(const SchemaColumn& column, const std::vector<std::string>& missing_words);

  // Why a cell is no value of the type stands in `complaints` at its row, where there is none yet.
  void convert(const std::vector<Cell>& cells, ColumnValues& values,
               std::vector<std::string>& complaints);

 private:
  bool convert_one(const Cell& cell, ColumnValues& values);
  bool put_category(const Cell& cell, ColumnValues& values);
  void put_missing(ColumnValues& values);
  std::string_view clean(const Cell& cell);

  const SchemaColumn& column_;
  const std::vector<std::string>& missing_words_;
  std::map<std::string_view, std::int32_t> codes_;
  std::deque<std::string> texts_;  // that are not the cells' own
  std::string scratch_;
};

}  // namespace mayfly
