// A piece of a CSV file, cut into fields by Arrow's parser: quotes as RFC 4180 has them, and line
// ends within them.
#pragma once

#include <arrow/csv/options.h>
#include <arrow/csv/parser.h>
#include <arrow/memory_pool.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runner/batch/arrow_result.h"

namespace mayfly {

// A row with another number of fields than the header.
struct UnevenRow {
  std::uint32_t row;  // in its block
  std::string text;   // cut
  std::int32_t fields;
  std::size_t lines = 0;  // line ends within
};

struct CsvStyle {
  char delimiter = ',';
  bool blank_lines = false;  // are rows of one field
};

class CsvBlock {
 public:
  // `columns` < 0: as many as the first row has. `shown`: of an uneven row's text, at most.
  CsvBlock(std::int32_t columns, std::uint32_t rows, CsvStyle style = {}, std::size_t shown = 1024)
      : parser(arrow::system_memory_pool(), options(style, shown), columns, 0,
               static_cast<std::int32_t>(rows)) {}
  CsvBlock(const CsvBlock&) = delete;
  CsvBlock& operator=(const CsvBlock&) = delete;

  Status parse(std::string_view text, bool to_end) {
    return from_arrow(to_end ? parser.ParseFinal(text, &bytes) : parser.Parse(text, &bytes),
                      "the CSV file");
  }

  std::vector<UnevenRow> uneven;
  arrow::csv::BlockParser parser;
  std::uint32_t bytes = 0;  // that were parsed

 private:
  arrow::csv::ParseOptions options(CsvStyle style, std::size_t shown) {
    auto options = arrow::csv::ParseOptions::Defaults();
    options.newlines_in_values = true;
    options.delimiter = style.delimiter;
    options.ignore_empty_lines = !style.blank_lines;
    options.invalid_row_handler = [this, shown](const arrow::csv::InvalidRow& row) {
      uneven.push_back(
          {.row = static_cast<std::uint32_t>(row.number),
           .text = std::string(row.text.substr(0, shown)),
           .fields = row.actual_columns,
           .lines = static_cast<std::size_t>(std::count(row.text.begin(), row.text.end(), '\n'))});
      return arrow::csv::InvalidRowResult::Skip;
    };
    return options;
  }
};

// `visit` is called with each row of the column, what stands there, and whether it was quoted.
template <typename Visit>
void visit_csv_column(const arrow::csv::BlockParser& parser, std::size_t column, Visit visit) {
  std::size_t row = 0;
  // Nothing in a visit fails.
  (void)parser.VisitColumn(
      static_cast<std::int32_t>(column),
      [&](const std::uint8_t* data, std::uint32_t size, bool quoted, bool) {
        visit(row++, std::string_view(reinterpret_cast<const char*>(data), size), quoted);
        return arrow::Status::OK();
      });
}

}  // namespace mayfly
