// Snapshots for tests: columns in memory, written as an ingest job leaves them.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/file.h"
#include "runner/report/trainer.h"

namespace mayfly {

inline constexpr std::int64_t kNoInteger = std::numeric_limits<std::int64_t>::min();

struct SnapshotColumn {
  std::string name;
  ColumnKind kind = ColumnKind::Number;
  // Of numbers; of integers and dates; of categories and texts (empty: missing).
  std::variant<std::vector<double>, std::vector<std::int64_t>, std::vector<std::string>> values;
};

struct Snapshot {
  std::vector<SnapshotColumn> columns;

  std::size_t rows() const;
  // schema.json, and the rows as that part's split.
  void write(const Path& folder, std::uint32_t part, std::string_view split,
             std::span<const std::uint32_t> rows) const;
  // Every n-th row is valid, the others train.
  void split(const Path& folder, std::uint32_t every) const;
};

// From the scikit-learn package: a column "x0", "x1" … of each feature, and "class", a category.
Snapshot load_sklearn(std::string_view file);

// Every type of a table's column, with holes, and what follows from them but for some noise: the
// category "outcome", the number "price", the integer "shelf".
Snapshot every_type(std::uint32_t rows);

const Path& train_runtime();  // the folder of the trainers' libraries

}  // namespace mayfly
