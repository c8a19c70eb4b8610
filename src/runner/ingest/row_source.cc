#include "runner/ingest/row_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "base/utf8.h"
#include "core/reason.h"

namespace mayfly {

std::size_t rows_of_block(std::size_t columns) {
  return std::clamp<std::size_t>(kBlockCells / std::max<std::size_t>(columns, 1), 16, kBlockRows);
}

Status settle_names(std::vector<SourceColumn>& columns) {
  if (columns.empty()) return refuse(reason::kInvalidInput, "the file has no columns");
  if (columns.size() > kMaxColumns) {
    return refuse(reason::kInvalidInput, fmt::format("the file has {} columns, and {} are the most",
                                                     columns.size(), kMaxColumns));
  }
  std::set<std::string_view> names;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    std::string& name = columns[i].name;
    name = to_utf8(name);
    if (name.empty()) name = fmt::format("column_{}", i + 1);
    if (name.size() > kMaxColumnName) {
      return refuse(
          reason::kInvalidInput,
          fmt::format("the name of column {} is longer than {} bytes", i + 1, kMaxColumnName));
    }
    if (!names.insert(name).second)
      return refuse(reason::kInvalidInput, fmt::format("the column '{}' is there twice", name));
  }
  return {};
}

Result<std::unique_ptr<RowSource>> open_source(const Path& file, const IngestOptions& options) {
  switch (options.format) {
    case SourceFormat::Csv:
      return open_csv_source(
          file, options.delimiter.empty() ? std::nullopt : std::optional(options.delimiter[0]));
    case SourceFormat::Tsv:
      return open_csv_source(file, '\t');
    case SourceFormat::Jsonl:
      return open_jsonl_source(file);
    case SourceFormat::Parquet:
      return open_parquet_source(file);
    case SourceFormat::Arff:
      return open_arff_source(file);
    case SourceFormat::Npz:
      return open_npz_source(file);
    case SourceFormat::Images:
      return open_image_source(file, options.image);
  }
  return refuse(reason::kUnsupported, "files of this format are not read");
}

}  // namespace mayfly
