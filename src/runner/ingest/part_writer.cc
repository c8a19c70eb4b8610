#include "runner/ingest/part_writer.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cmath>
#include <optional>
#include <span>
#include <utility>

#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr std::uint64_t kMostWaiting = std::uint64_t{32} << 20U;

NpyType npy_type_of(ColumnType type) {
  switch (type) {
    case ColumnType::Number:
      return NpyType::Float64;
    case ColumnType::Integer:
    case ColumnType::Date:
    case ColumnType::Text:  // its offsets
      return NpyType::Int64;
    case ColumnType::Category:
      return NpyType::Int32;
    case ColumnType::Image:
      return NpyType::UInt8;
  }
  return NpyType::Float64;
}

Status append_bytes(const Path& path, std::string_view bytes) {
  if (bytes.empty()) return {};
  const Fd file = TRY(open_file(path, O_WRONLY | O_APPEND));
  return write_all(file.get(), bytes);
}

}  // namespace

Split split_of(std::uint64_t hash, const SplitRule& rule) {
  const double share = std::ldexp(static_cast<double>(hash), -64);
  if (share < rule.test) return Split::Test;
  return share < rule.test + rule.valid ? Split::Valid : Split::Train;
}

// One column of one split.
class PartWriter::Column {
 public:
  static Result<Column> create(const Path& folder, std::size_t index, const SchemaColumn& schema) {
    const std::string name = fmt::format("c{}", index);
    const bool text = schema.type == ColumnType::Text;
    std::vector<std::uint64_t> row;
    if (schema.type == ColumnType::Image) row.assign(schema.shape.begin(), schema.shape.end());
    Column column(TRY(NpyWriter::create(folder / (name + (text ? ".offsets.npy" : ".npy")),
                                        npy_type_of(schema.type), std::move(row))));
    if (!text) return column;
    column.text_ = folder / (name + ".text");
    std::ignore = TRY(open_file(column.text_, O_WRONLY | O_CREAT | O_EXCL));
    const std::int64_t begin = 0;
    TRY(column.file_.append(std::span(&begin, 1)));
    return column;
  }

  // The bytes that it added.
  Result<std::uint64_t> append(const ColumnValues& values, std::span<const std::uint32_t> rows) {
    switch (values.type) {
      case ColumnType::Number:
        return append_plain(values.numbers, rows);
      case ColumnType::Integer:
      case ColumnType::Date:
        return append_plain(values.integers, rows);
      case ColumnType::Category:
        return append_plain(values.codes, rows);
      case ColumnType::Text:
        return append_texts(values.texts, rows);
      case ColumnType::Image:
        return append_images(values.texts, rows);
    }
    return 0;
  }

  Status flush() {
    TRY(file_.flush());
    TRY(append_bytes(text_, pending_));
    pending_ = {};
    return {};
  }
  Status close() {
    TRY(flush());
    return file_.close();
  }

 private:
  explicit Column(NpyWriter file) : file_(std::move(file)) {}

  template <typename T>
  Result<std::uint64_t> append_plain(const std::vector<T>& values,
                                     std::span<const std::uint32_t> rows) {
    std::vector<T> picked;
    picked.reserve(rows.size());
    for (const std::uint32_t row : rows) picked.push_back(values[row]);
    TRY(file_.append(std::span<const T>(picked)));
    return picked.size() * sizeof(T);
  }

  Result<std::uint64_t> append_texts(const std::vector<std::string_view>& values,
                                     std::span<const std::uint32_t> rows) {
    std::vector<std::int64_t> ends;
    const std::int64_t before = end_;
    for (const std::uint32_t row : rows) {
      pending_ += values[row];
      end_ += static_cast<std::int64_t>(values[row].size());
      ends.push_back(end_);
    }
    TRY(file_.append(std::span<const std::int64_t>(ends)));
    return ends.size() * sizeof(std::int64_t) + static_cast<std::uint64_t>(end_ - before);
  }

  Result<std::uint64_t> append_images(const std::vector<std::string_view>& values,
                                      std::span<const std::uint32_t> rows) {
    std::uint64_t bytes = 0;
    for (const std::uint32_t row : rows) {
      const std::string_view pixels = values[row];
      TRY(file_.append(
          std::span(reinterpret_cast<const std::uint8_t*>(pixels.data()), pixels.size())));
      bytes += pixels.size();
    }
    return bytes;
  }

  NpyWriter file_;
  Path text_;            // of a text
  std::string pending_;  // of it
  std::int64_t end_ = 0;
};

struct PartWriter::Folder {
  std::vector<Column> columns;
  NpyWriter hashes;
};

PartWriter::PartWriter(std::vector<Folder> folders, Bytes max)
    : folders_(std::move(folders)), max_(max) {}
PartWriter::PartWriter(PartWriter&&) noexcept = default;
PartWriter::~PartWriter() = default;

Result<PartWriter> PartWriter::create(const Path& folder, const DatasetSchema& schema, Bytes max) {
  std::vector<Folder> folders;
  for (const Split split : kSplits) {
    const Path path = folder / to_string(split);
    TRY(make_directories(path));
    Folder made{.columns = {},
                .hashes = TRY(NpyWriter::create(path / "row.npy", NpyType::UInt64, {}))};
    for (std::size_t i = 0; i < schema.columns.size(); ++i)
      made.columns.push_back(TRY(Column::create(path, i, schema.columns[i])));
    folders.push_back(std::move(made));
  }
  return PartWriter(std::move(folders), max);
}

Status PartWriter::append(const std::vector<ColumnValues>& columns,
                          const std::vector<PlacedRow>& rows) {
  std::uint64_t added = 0;
  for (const Split split : kSplits) {
    Folder& folder = folders_[static_cast<std::size_t>(split)];
    std::vector<std::uint32_t> picked;
    std::vector<std::uint64_t> hashes;
    for (const PlacedRow& row : rows) {
      if (row.split != split) continue;
      picked.push_back(row.row);
      hashes.push_back(row.hash);
    }
    if (picked.empty()) continue;
    TRY(folder.hashes.append(std::span<const std::uint64_t>(hashes)));
    added += hashes.size() * sizeof(std::uint64_t);
    for (std::size_t i = 0; i < columns.size(); ++i)
      added += TRY(folder.columns[i].append(columns[i], picked));
    rows_[static_cast<std::size_t>(split)] += picked.size();
  }
  bytes_ += added;
  waiting_ += added;
  if (bytes_ > max_.count) {
    return refuse(reason::kTooLarge,
                  fmt::format("the data set would have more than {}", to_string(max_)));
  }
  if (waiting_ < kMostWaiting) return {};
  waiting_ = 0;
  for (Folder& folder : folders_) {
    for (Column& column : folder.columns) TRY(column.flush());
  }
  return {};
}

Status PartWriter::close() {
  for (Folder& folder : folders_) {
    TRY(folder.hashes.close());
    for (Column& column : folder.columns) TRY(column.close());
  }
  return {};
}

}  // namespace mayfly
