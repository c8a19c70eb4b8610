// Rows that are stored already, read back as cells. Jails wrote these files, which decoded foreign
// bytes: nothing that they say is believed before it was compared.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "core/reason.h"
#include "runner/dataset/npy.h"
#include "runner/ingest/conversion.h"
#include "runner/ingest/mapped_file.h"
#include "runner/ingest/part_writer.h"
#include "runner/ingest/row_source.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMostBlock = std::uint64_t{32} << 20U;

std::unexpected<Error> damaged_part(const Path& file, std::string_view what) {
  return fail(Code::DataLoss, fmt::format("the stored column {} {}", file.native(), what));
}

NpyType stored_type(ColumnType type) {
  switch (type) {
    case ColumnType::Number:
      return NpyType::Float64;
    case ColumnType::Category:
      return NpyType::Int32;
    case ColumnType::Image:
      return NpyType::UInt8;
    case ColumnType::Integer:
    case ColumnType::Date:
    case ColumnType::Text:
      break;
  }
  return NpyType::Int64;
}

// One column of one split of one part.
struct StoredColumn {
  NpyColumn values;
  std::optional<MappedFile> text = {};  // of a text, whose values are offsets
  std::uint64_t image_bytes = 0;        // of one row

  static Result<StoredColumn> open(const Path& folder, std::size_t index,
                                   const SchemaColumn& schema, std::uint64_t rows) {
    const bool text = schema.type == ColumnType::Text;
    const Path file = folder / fmt::format("c{}{}", index, text ? ".offsets.npy" : ".npy");
    StoredColumn column{.values = TRY(NpyColumn::open(file))};
    const bool image = schema.type == ColumnType::Image;
    if (column.values.type() != stored_type(schema.type) ||
        column.values.shape().size() != (image ? 4U : 1U) ||
        column.values.rows() != rows + (text ? 1 : 0)) {
      return damaged_part(file, "is not of its schema");
    }
    if (image) {
      column.image_bytes = 1;
      for (std::size_t i = 0; i < schema.shape.size(); ++i) {
        if (i + 1 >= column.values.shape().size() ||
            column.values.shape()[i + 1] != schema.shape[i]) {
          return damaged_part(file, "has images of another size");
        }
        column.image_bytes *= schema.shape[i];
      }
    }
    if (text) column.text.emplace(TRY(MappedFile::open(folder / fmt::format("c{}.text", index))));
    return column;
  }

  // The bytes of a text or an image; nullopt: they lie outside their file.
  std::optional<std::string_view> bytes(std::uint64_t row) const {
    if (image_bytes > 0) {
      const auto all = values.as<std::uint8_t>();
      return std::string_view(reinterpret_cast<const char*>(all.data()) + row * image_bytes,
                              image_bytes);
    }
    const auto ends = values.as<std::int64_t>();
    const std::string_view all = text->bytes();
    if (ends[row] < 0 || ends[row + 1] < ends[row] ||
        static_cast<std::uint64_t>(ends[row + 1]) > all.size()) {
      return std::nullopt;
    }
    return all.substr(static_cast<std::size_t>(ends[row]),
                      static_cast<std::size_t>(ends[row + 1] - ends[row]));
  }
};

Cell whole_or_missing(CellKind kind, std::int64_t value) {
  if (value == kMissingInteger) return {};
  return {.kind = kind, .integer = value};
}

// nullopt: what no ingest writes.
std::optional<Cell> stored_cell(const SchemaColumn& schema, const StoredColumn& column,
                                std::uint64_t row) {
  switch (schema.type) {
    case ColumnType::Number: {
      const double number = column.values.as<double>()[row];
      if (std::isnan(number)) return Cell{};
      return Cell{.kind = CellKind::Number, .number = number};
    }
    case ColumnType::Integer:
      return whole_or_missing(CellKind::Integer, column.values.as<std::int64_t>()[row]);
    case ColumnType::Date:
      return whole_or_missing(CellKind::Date, column.values.as<std::int64_t>()[row]);
    case ColumnType::Category: {
      const std::int32_t code = column.values.as<std::int32_t>()[row];
      if (code == kMissingCode) return Cell{};
      if (code < 0 || static_cast<std::size_t>(code) >= schema.categories.size())
        return std::nullopt;
      return Cell{.kind = CellKind::Text,
                  .text = schema.categories[static_cast<std::size_t>(code)]};
    }
    case ColumnType::Text:
    case ColumnType::Image: {
      const auto bytes = column.bytes(row);
      if (!bytes) return std::nullopt;
      return Cell{.kind = bytes->empty() ? CellKind::Missing : CellKind::Text, .text = *bytes};
    }
  }
  return std::nullopt;
}

class PartSource final : public RowSource {
 public:
  PartSource(const DatasetSchema& schema, std::vector<Path> folders)
      : schema_(schema), folders_(std::move(folders)) {
    for (const SchemaColumn& column : schema.columns) {
      columns_.push_back({.name = column.name,
                          .type = column.type,
                          .categories = column.categories,
                          .shape = column.shape});
    }
  }

  Status count() {
    for (const Path& folder : folders_) total_ += TRY(NpyColumn::open(folder / "row.npy")).rows();
    return {};
  }

  const std::vector<SourceColumn>& columns() const override { return columns_; }

  Result<bool> next(SourceBlock& block) override {
    block.clear(columns_.size());
    while (at_ == rows_) {
      if (next_folder_ == folders_.size()) return false;
      TRY(open_folder(folders_[next_folder_++]));
    }
    const std::uint64_t most = rows_of_block(columns_.size());
    std::uint64_t bytes = 0;
    while (at_ < rows_ && block.rows.size() < most && bytes < kMostBlock) {
      bytes += TRY(add_row(block));
      ++at_;
    }
    return true;
  }

  std::uint64_t done_bytes() const override { return done_; }
  std::uint64_t total_bytes() const override { return total_; }

 private:
  Status open_folder(const Path& folder) {
    stored_.clear();
    at_ = rows_ = 0;
    const NpyColumn keys = TRY(NpyColumn::open(folder / "row.npy"));
    for (std::size_t i = 0; i < schema_.columns.size(); ++i)
      stored_.push_back(TRY(StoredColumn::open(folder, i, schema_.columns[i], keys.rows())));
    rows_ = keys.rows();
    return {};
  }

  // Its bytes of texts and images.
  Result<std::uint64_t> add_row(SourceBlock& block) {
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < stored_.size(); ++i) {
      const auto cell = stored_cell(schema_.columns[i], stored_[i], at_);
      if (!cell) return damaged_part(columns_[i].name, "holds what no ingest writes");
      bytes += cell->text.size();
      block.columns[i].push_back(*cell);
    }
    block.rows.push_back({.row = ++done_});
    return bytes;
  }

  const DatasetSchema& schema_;
  std::vector<Path> folders_;  // of splits
  std::vector<SourceColumn> columns_;
  std::size_t next_folder_ = 0;
  std::vector<StoredColumn> stored_;
  std::uint64_t at_ = 0;
  std::uint64_t rows_ = 0;  // of the folder
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;  // rows: progress is counted in them
};

}  // namespace

Result<std::unique_ptr<RowSource>> open_part_source(const Path& folder,
                                                    const DatasetSchema& schema) {
  std::vector<Path> folders;
  std::error_code error;
  for (std::size_t part = 0; std::filesystem::exists(folder / std::to_string(part), error);
       ++part) {
    for (const Split split : kSplits)
      folders.push_back(folder / std::to_string(part) / to_string(split));
  }
  if (folders.empty()) return damaged_part(folder, "has no parts");
  auto source = std::make_unique<PartSource>(schema, std::move(folders));
  TRY(source->count());
  return source;
}

}  // namespace mayfly
