// Writes a part: for each split a folder of columns (docs/design/0013-datasets.md).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "base/result.h"
#include "runner/dataset/npy.h"
#include "runner/ingest/conversion.h"
#include "runner/report/dataset_schema.h"
#include "runner/report/split.h"

namespace mayfly {

// Where a row belongs whose hash is this.
Split split_of(std::uint64_t hash, const SplitRule& rule);

struct PlacedRow {
  std::uint32_t row = 0;  // of its block
  Split split = Split::Train;
  std::uint64_t hash = 0;
};

class PartWriter {
 public:
  // Makes `folder` and the three in it. too_large: the part would have more than `max` bytes.
  static Result<PartWriter> create(const Path& folder, const DatasetSchema& schema, Bytes max);
  PartWriter(PartWriter&&) noexcept;
  ~PartWriter();

  // `columns`: one for each of the schema.
  Status append(const std::vector<ColumnValues>& columns, const std::vector<PlacedRow>& rows);
  Status close();
  std::uint64_t rows(Split split) const { return rows_[static_cast<std::size_t>(split)]; }

 private:
  class Column;
  struct Folder;
  PartWriter(std::vector<Folder> folders, Bytes max);

  std::vector<Folder> folders_;
  std::array<std::uint64_t, kSplits.size()> rows_{};
  Bytes max_;
  std::uint64_t bytes_ = 0;
  std::uint64_t waiting_ = 0;  // at most so many of them are in memory
};

}  // namespace mayfly
