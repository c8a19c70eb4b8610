// Which columns of a file make which inputs of a function. No I/O.
//
// An input's columns are, in this order: those that the job names; the column of its name; the
// columns NAME_0, NAME_1, …; or, where it is the only input and the file has exactly as many
// columns besides the kept ones as it takes, those in the file's order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "core/tensor.h"
#include "runner/report/batch_job.h"

namespace mayfly {

struct FileColumn {
  std::string name;
  bool list = false;         // its values are lists
  std::uint64_t length = 0;  // of the lists, where it is known
};

struct InputColumns {
  TensorSpec spec;          // the shape of one row: without the first dimension, nothing free
  std::uint64_t width = 1;  // elements of one row
  std::vector<std::size_t> columns;  // one, or `width` of them
  bool list = false;                 // the one column's values are lists of `width`
};

struct ColumnMap {
  std::vector<InputColumns> inputs;
  std::vector<std::size_t> kept;
};

// A refusal lists what the file has and what the function takes.
Result<ColumnMap> map_columns(std::span<const FileColumn> columns, const BatchJob& job);

// Rows that one request may have: 1 where a model's first dimension is 1, else as many as one
// likes (0). Refused: a function whose first dimension stands for no rows.
Result<std::uint32_t> rows_per_request(const Signature& signature);

}  // namespace mayfly
