#include "runner/ingest/row_removal.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostBytes = std::size_t{256} << 20U;
constexpr std::size_t kOfALine = 96;  // besides its values

std::unexpected<Error> bad_line(const IngestSource& of, const SourceRow& at,
                                std::string_view what) {
  const std::string line = at.line > 0 ? fmt::format(" (line {})", at.line) : "";
  return refuse(reason::kInvalidInput,
                fmt::format("{}, row {}{}: {}; nothing is erased", of.name, at.row, line, what));
}

}  // namespace

Status RowRemoval::find_columns(const RowSource& source, const IngestSource& of) {
  std::vector<std::size_t> columns;
  for (const SourceColumn& column : source.columns()) {
    const auto known = std::ranges::find(schema_.columns, column.name, &SchemaColumn::name);
    if (known == schema_.columns.end()) {
      return refuse(reason::kInvalidInput,
                    fmt::format("{}: the data set has no column '{}' to find rows by; nothing is "
                                "erased",
                                of.name, column.name));
    }
    columns.push_back(static_cast<std::size_t>(known - schema_.columns.begin()));
  }
  std::ranges::sort(columns);
  if (!columns_.empty() && columns != columns_) {
    return refuse(reason::kInvalidInput,
                  fmt::format("{}: all files must name rows by the same columns; nothing is erased",
                              of.name));
  }
  columns_ = std::move(columns);
  return {};
}

Status RowRemoval::read(RowSource& source, const IngestSource& of,
                        const std::vector<std::string>& missing) {
  SourceBlock block;
  while (true) {
    const auto more = source.next(block);
    if (!more) return std::unexpected(more.error().in(of.name));
    if (!*more) return {};
    TRY(find_columns(source, of));  // of JSON lines they may grow, which is refused
    TRY(read_block(block, source, of, missing));
  }
}

Status RowRemoval::read_block(const SourceBlock& block, const RowSource& source,
                              const IngestSource& of, const std::vector<std::string>& missing) {
  if (!block.failures.empty()) return bad_line(of, block.failures[0].at, block.failures[0].error);
  std::vector<ColumnValues> values(schema_.columns.size());
  std::vector<bool> strange(block.rows.size());
  std::vector<ColumnConverter> converters;
  converters.reserve(columns_.size());  // values point into them
  for (const std::size_t index : columns_) {
    const SchemaColumn& column = schema_.columns[index];
    const auto found = std::ranges::find(source.columns(), column.name, &SourceColumn::name);
    std::vector<std::string> complaints(block.rows.size());
    converters.emplace_back(column, missing);
    converters.back().convert(
        block.columns[static_cast<std::size_t>(found - source.columns().begin())], values[index],
        complaints);
    const auto bad =
        std::ranges::find_if(complaints, [](const auto& text) { return !text.empty(); });
    // No row has a category that the schema does not know.
    if (bad != complaints.end() && column.type != ColumnType::Category) {
      return bad_line(of, block.rows[static_cast<std::size_t>(bad - complaints.begin())], *bad);
    }
    for (std::size_t row = 0; row < strange.size(); ++row)
      strange[row] = strange[row] || !complaints[row].empty();
  }
  for (std::size_t row = 0; row < strange.size(); ++row) {
    if (strange[row]) {
      ++strangers_;
    } else {
      TRY(add_line(values, row, block.rows[row], of));
    }
  }
  return {};
}

Status RowRemoval::add_line(const std::vector<ColumnValues>& values, std::size_t row,
                            const SourceRow& at, const IngestSource& of) {
  const auto is_missing = [&](std::size_t index) { return values[index].missing(row); };
  if (std::ranges::all_of(columns_, is_missing)) return bad_line(of, at, "it has no value");
  scratch_.clear();
  for (const std::size_t index : columns_) values[index].append_canonical(scratch_, row);
  if (lines_.try_emplace(scratch_, false).second) bytes_ += scratch_.size() + kOfALine;
  if (bytes_ <= kMostBytes) return {};
  return refuse(reason::kTooLarge,
                fmt::format("{}: the lines are more than fit into memory; name the rows by a key "
                            "column, or erase them in several goes",
                            of.name));
}

bool RowRemoval::removes(const std::vector<ColumnValues>& values, std::size_t row) {
  scratch_.clear();
  for (const std::size_t index : columns_) values[index].append_canonical(scratch_, row);
  const auto found = lines_.find(scratch_);
  if (found == lines_.end()) return false;
  found->second = true;
  return true;
}

std::uint64_t RowRemoval::unmatched() const {
  return strangers_ + static_cast<std::uint64_t>(std::ranges::count_if(
                          lines_, [](const auto& line) { return !line.second; }));
}

}  // namespace mayfly
