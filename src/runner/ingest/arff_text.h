// ARFF (Weka's attribute-relation files): a header of typed attributes, then rows as
// comma-separated values, '?' where there is none. Sparse rows and relational attributes are
// refused. No I/O; takes lines, keeps nothing.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runner/ingest/cell.h"
#include "runner/report/dataset_schema.h"

namespace mayfly {

struct ArffAttribute {
  std::string name;
  std::optional<ColumnType> type = {};  // of numbers none: whether they are whole, the rows say
  std::vector<std::string> categories = {};
};

// A line of the header, as it stands. nullopt: no attribute. `data`: the rows begin behind it.
struct ArffLine {
  std::optional<ArffAttribute> attribute = {};
  bool data = false;
};
Result<ArffLine> parse_arff_line(std::string_view line);

// A row's values; texts lie in `line`, or in `texts` where they were quoted. The error says why it
// is none.
Result<std::vector<Cell>> parse_arff_row(std::string_view line, std::size_t attributes,
                                         std::deque<std::string>& texts);

}  // namespace mayfly
