// Parquet, by Arrow: batch by batch, on one thread.
#include <arrow/array/array_binary.h>
#include <arrow/array/array_decimal.h>
#include <arrow/array/array_dict.h>
#include <arrow/array/array_primitive.h>
#include <arrow/io/file.h>
#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>
#include <fmt/format.h>
#include <parquet/arrow/reader.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <parquet/properties.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>

#include "core/reason.h"
#include "runner/batch/arrow_date.h"
#include "runner/batch/arrow_result.h"
#include "runner/batch/arrow_text.h"
#include "runner/ingest/row_source.h"

namespace mayfly {
namespace {

using arrow::Type;

constexpr std::string_view kParquet = "the Parquet file";
constexpr std::int64_t kPage = 1 << 20;

Cell integer_cell(std::int64_t value) { return {.kind = CellKind::Integer, .integer = value}; }

Cell number_cell(double value) {
  if (std::isnan(value)) return {};
  return {.kind = CellKind::Number, .number = value};
}

template <typename Array>
auto at(const arrow::Array& array, std::int64_t row) {
  return static_cast<const Array&>(array).Value(row);
}

// Of types that are numbers or dates; nullopt: of others.
std::optional<Cell> plain_cell(const arrow::Array& array, std::int64_t row) {
  switch (array.type_id()) {
    case Type::BOOL:
      return Cell{.kind = CellKind::Boolean,
                  .integer = at<arrow::BooleanArray>(array, row) ? 1 : 0};
    case Type::INT8:
      return integer_cell(at<arrow::Int8Array>(array, row));
    case Type::INT16:
      return integer_cell(at<arrow::Int16Array>(array, row));
    case Type::INT32:
      return integer_cell(at<arrow::Int32Array>(array, row));
    case Type::INT64:
      return integer_cell(at<arrow::Int64Array>(array, row));
    case Type::UINT8:
      return integer_cell(at<arrow::UInt8Array>(array, row));
    case Type::UINT16:
      return integer_cell(at<arrow::UInt16Array>(array, row));
    case Type::UINT32:
      return integer_cell(at<arrow::UInt32Array>(array, row));
    case Type::HALF_FLOAT:
      return number_cell(static_cast<double>(
          arrow::util::Float16::FromBits(at<arrow::HalfFloatArray>(array, row)).ToFloat()));
    case Type::FLOAT:
      return number_cell(static_cast<double>(at<arrow::FloatArray>(array, row)));
    case Type::DOUBLE:
      return number_cell(at<arrow::DoubleArray>(array, row));
    case Type::DATE32:
      return Cell{.kind = CellKind::Date,
                  .integer = milliseconds_of(static_cast<const arrow::Date32Array&>(array), row)};
    case Type::DATE64:
      return Cell{.kind = CellKind::Date, .integer = at<arrow::Date64Array>(array, row)};
    case Type::TIMESTAMP:
      if (const auto date = milliseconds_of(static_cast<const arrow::TimestampArray&>(array), row))
        return Cell{.kind = CellKind::Date, .integer = *date};
      return Cell{};
    default:
      return std::nullopt;
  }
}

class ParquetSource final : public RowSource {
 public:
  Status open(const Path& path) {
    total_bytes_ = TRY(mayfly::file_size(path));
    auto file = TRY(from_arrow(
        arrow::io::ReadableFile::Open(path.native(), arrow::system_memory_pool()), kParquet));
    parquet::ReaderProperties properties(arrow::system_memory_pool());
    properties.enable_buffered_stream();
    properties.set_buffer_size(kPage);
    parquet::arrow::FileReaderBuilder builder;
    TRY(from_arrow(builder.Open(std::move(file), properties), kParquet));
    const auto columns = static_cast<std::size_t>(
        std::max(builder.raw_reader()->metadata()->schema()->group_node()->field_count(), 0));
    parquet::ArrowReaderProperties arrow_properties(false);
    arrow_properties.set_pre_buffer(false);
    arrow_properties.set_batch_size(static_cast<std::int64_t>(rows_of_block(columns)));
    builder.memory_pool(arrow::system_memory_pool())->properties(arrow_properties);
    reader_ = TRY(from_arrow(builder.Build(), kParquet));
    TRY(from_arrow(reader_->GetSchema(&schema_), kParquet));
    for (const auto& field : schema_->fields()) columns_.push_back({.name = field->name()});
    TRY(settle_names(columns_));
    total_rows_ = static_cast<std::uint64_t>(
        std::max<std::int64_t>(reader_->parquet_reader()->metadata()->num_rows(), 0));
    batches_ = TRY(from_arrow(reader_->GetRecordBatchReader(), kParquet));
    return {};
  }

  Result<bool> next(SourceBlock& block) override {
    while (true) {
      batch_ = TRY(from_arrow(batches_->Next(), kParquet));
      if (batch_ == nullptr) return end();
      if (batch_->num_rows() > 0) break;
    }
    // Offsets and indices are the file's.
    TRY(from_arrow(batch_->ValidateFull(), kParquet));
    if (static_cast<std::size_t>(batch_->num_columns()) != columns_.size())
      return refuse(reason::kInvalidInput, "the Parquet file's columns are not what it says");
    texts_.clear();
    block.clear(columns_.size());
    const std::int64_t rows = batch_->num_rows();
    for (std::int64_t row = 0; row < rows; ++row) block.rows.push_back({.row = ++row_});
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      const auto& array = *batch_->column(static_cast<int>(column));
      block.columns[column].reserve(static_cast<std::size_t>(rows));
      for (std::int64_t row = 0; row < rows; ++row)
        block.columns[column].push_back(cell_of_arrow(array, row));
    }
    return true;
  }

  const std::vector<SourceColumn>& columns() const override { return columns_; }
  // Rows stand for bytes.
  std::uint64_t done_bytes() const override {
    if (total_rows_ == 0) return total_bytes_;
    const double share = static_cast<double>(row_) / static_cast<double>(total_rows_);
    return static_cast<std::uint64_t>(std::min(share, 1.0) * static_cast<double>(total_bytes_));
  }
  std::uint64_t total_bytes() const override { return total_bytes_; }

 private:
  // Where the pages of its first column end early, Arrow's batches do, without a word.
  Result<bool> end() const {
    if (row_ == total_rows_) return false;
    return refuse(
        reason::kInvalidInput,
        fmt::format("the Parquet file says that it has {} rows, and has {}", total_rows_, row_));
  }

  Cell cell_of_arrow(const arrow::Array& array, std::int64_t row) {
    if (array.IsNull(row)) return {};
    if (const auto plain = plain_cell(array, row)) return *plain;
    switch (array.type_id()) {
      case Type::STRING:
      case Type::BINARY:
        return text_cell(static_cast<const arrow::BinaryArray&>(array).GetView(row));
      case Type::LARGE_STRING:
      case Type::LARGE_BINARY:
        return text_cell(static_cast<const arrow::LargeBinaryArray&>(array).GetView(row));
      case Type::UINT64: {
        const std::uint64_t value = at<arrow::UInt64Array>(array, row);
        if (value <= INT64_MAX) return integer_cell(static_cast<std::int64_t>(value));
        return text_cell(texts_.emplace_back(std::to_string(value)));
      }
      case Type::DECIMAL128:
      case Type::DECIMAL256:
        return {.kind = CellKind::Field,
                .quoted = true,
                .text = texts_.emplace_back(decimal(array, row))};
      case Type::DICTIONARY: {
        const auto& coded = static_cast<const arrow::DictionaryArray&>(array);
        const std::int64_t index = coded.GetValueIndex(row);
        const bool there = index >= 0 && index < coded.dictionary()->length() &&
                           coded.dictionary()->type_id() != Type::DICTIONARY;
        return there ? cell_of_arrow(*coded.dictionary(), index) : Cell{};
      }
      default: {
        // Lists, times of day and the like: as JSON.
        std::string& text = texts_.emplace_back();
        append_arrow_json(text, array, row);
        return text_cell(text);
      }
    }
  }

  static std::string decimal(const arrow::Array& array, std::int64_t row) {
    return array.type_id() == Type::DECIMAL128
               ? static_cast<const arrow::Decimal128Array&>(array).FormatValue(row)
               : static_cast<const arrow::Decimal256Array&>(array).FormatValue(row);
  }

  static Cell text_cell(std::string_view text) { return {.kind = CellKind::Text, .text = text}; }

  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;
  std::shared_ptr<arrow::RecordBatch> batch_;  // what the cells of the block point into
  std::shared_ptr<arrow::Schema> schema_;
  std::vector<SourceColumn> columns_;
  std::deque<std::string> texts_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t total_rows_ = 0;
  std::uint64_t row_ = 0;
};

}  // namespace

Result<std::unique_ptr<RowSource>> open_parquet_source(const Path& file) {
  auto source = std::make_unique<ParquetSource>();
  TRY(source->open(file));
  return source;
}

}  // namespace mayfly
