// Parquet, by Arrow: only the columns that are used, page by page, on one thread.
#include <arrow/array/array_dict.h>
#include <arrow/array/array_nested.h>
#include <arrow/array/builder_base.h>
#include <arrow/io/file.h>
#include <arrow/memory_pool.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>
#include <fmt/format.h>
#include <parquet/arrow/reader.h>
#include <parquet/arrow/schema.h>
#include <parquet/file_reader.h>
#include <parquet/metadata.h>
#include <parquet/properties.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "core/reason.h"
#include "core/wire/json_text.h"
#include "runner/batch/arrow_date.h"
#include "runner/batch/arrow_result.h"
#include "runner/batch/arrow_text.h"
#include "runner/batch/byte_window.h"
#include "runner/batch/chunk_builder.h"
#include "runner/batch/table_reader.h"

namespace mayfly {
namespace {

using arrow::Type;

constexpr std::string_view kParquetFile = "the Parquet file";
constexpr std::int64_t kPageBuffer = 1 << 20;

bool is_list(const arrow::DataType& type) {
  return type.id() == Type::LIST || type.id() == Type::LARGE_LIST ||
         type.id() == Type::FIXED_SIZE_LIST;
}

// Types whose values are those of a tensor.
bool is_plain(const arrow::DataType& type) {
  switch (type.id()) {
    case Type::BOOL:
    case Type::INT8:
    case Type::INT16:
    case Type::INT32:
    case Type::INT64:
    case Type::UINT8:
    case Type::UINT16:
    case Type::UINT32:
    case Type::UINT64:
    case Type::HALF_FLOAT:
    case Type::FLOAT:
    case Type::DOUBLE:
    case Type::STRING:
    case Type::LARGE_STRING:
    case Type::BINARY:
    case Type::LARGE_BINARY:
    case Type::DATE32:
    case Type::DATE64:
    case Type::TIMESTAMP:
      return true;
    case Type::DICTIONARY:
      return is_plain(*static_cast<const arrow::DictionaryType&>(type).value_type());
    default:
      return false;
  }
}

template <typename Array>
auto value_at(const arrow::Array& array, std::int64_t row) {
  return static_cast<const Array&>(array).Value(row);
}

CellValue arrow_cell(const arrow::Array& array, std::int64_t row) {
  if (array.IsNull(row)) return NoValue{};
  switch (array.type_id()) {
    case Type::BOOL:
      return value_at<arrow::BooleanArray>(array, row);
    case Type::INT8:
      return std::int64_t{value_at<arrow::Int8Array>(array, row)};
    case Type::INT16:
      return std::int64_t{value_at<arrow::Int16Array>(array, row)};
    case Type::INT32:
      return std::int64_t{value_at<arrow::Int32Array>(array, row)};
    case Type::INT64:
      return std::int64_t{value_at<arrow::Int64Array>(array, row)};
    case Type::DATE32:
      return milliseconds_of(static_cast<const arrow::Date32Array&>(array), row);
    case Type::DATE64:
      return std::int64_t{value_at<arrow::Date64Array>(array, row)};
    case Type::TIMESTAMP:
      if (const auto date = milliseconds_of(static_cast<const arrow::TimestampArray&>(array), row))
        return *date;
      return NoValue{};
    case Type::UINT8:
      return std::uint64_t{value_at<arrow::UInt8Array>(array, row)};
    case Type::UINT16:
      return std::uint64_t{value_at<arrow::UInt16Array>(array, row)};
    case Type::UINT32:
      return std::uint64_t{value_at<arrow::UInt32Array>(array, row)};
    case Type::UINT64:
      return std::uint64_t{value_at<arrow::UInt64Array>(array, row)};
    case Type::HALF_FLOAT:
      return double{
          arrow::util::Float16::FromBits(value_at<arrow::HalfFloatArray>(array, row)).ToFloat()};
    case Type::FLOAT:
      return double{value_at<arrow::FloatArray>(array, row)};
    case Type::DOUBLE:
      return value_at<arrow::DoubleArray>(array, row);
    case Type::STRING:
    case Type::BINARY:
      return StringText{static_cast<const arrow::BinaryArray&>(array).GetView(row)};
    case Type::LARGE_STRING:
    case Type::LARGE_BINARY:
      return StringText{static_cast<const arrow::LargeBinaryArray&>(array).GetView(row)};
    case Type::DICTIONARY: {
      const auto& coded = static_cast<const arrow::DictionaryArray&>(array);
      const std::int64_t index = coded.GetValueIndex(row);
      if (index < 0 || index >= coded.dictionary()->length()) return NoValue{};
      return arrow_cell(*coded.dictionary(), index);
    }
    default:
      return NoValue{};
  }
}

// What a dictionary's indices name, as values of their own.
arrow::Result<std::shared_ptr<arrow::Array>> plain_array(std::shared_ptr<arrow::Array> array) {
  if (array->type_id() != Type::DICTIONARY) return array;
  const auto& coded = static_cast<const arrow::DictionaryArray&>(*array);
  ARROW_ASSIGN_OR_RAISE(
      auto values, arrow::MakeBuilder(coded.dictionary()->type(), arrow::system_memory_pool()));
  const arrow::ArraySpan dictionary(*coded.dictionary()->data());
  for (std::int64_t row = 0; row < coded.length(); ++row) {
    if (coded.IsNull(row)) {
      ARROW_RETURN_NOT_OK(values->AppendNull());
      continue;
    }
    const std::int64_t index = coded.GetValueIndex(row);
    if (index < 0 || index >= dictionary.length)
      return arrow::Status::Invalid("an index beyond its dictionary");
    ARROW_RETURN_NOT_OK(values->AppendArraySlice(dictionary, index, 1));
  }
  return values->Finish();
}

struct ListValues {
  std::shared_ptr<arrow::Array> values;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

ListValues list_at(const arrow::Array& array, std::int64_t row) {
  switch (array.type_id()) {
    case Type::LIST: {
      const auto& list = static_cast<const arrow::ListArray&>(array);
      return {list.values(), list.value_offset(row), list.value_length(row)};
    }
    case Type::LARGE_LIST: {
      const auto& list = static_cast<const arrow::LargeListArray&>(array);
      return {list.values(), list.value_offset(row), list.value_length(row)};
    }
    default: {
      const auto& list = static_cast<const arrow::FixedSizeListArray&>(array);
      return {list.values(), list.value_offset(row), list.value_length(row)};
    }
  }
}

void add_leaves(const parquet::arrow::SchemaField& field, std::vector<int>& leaves) {
  if (field.children.empty()) leaves.push_back(field.column_index);
  for (const parquet::arrow::SchemaField& child : field.children) add_leaves(child, leaves);
}

class ParquetReader final : public RowReader {
 public:
  ParquetReader(const BatchJob& job, std::uint32_t rows) : job_(job), rows_(rows) {}

  Status open(const Path& path) {
    total_bytes_ = TRY(mayfly::file_size(path));
    auto file = TRY(from_arrow(
        arrow::io::ReadableFile::Open(path.native(), arrow::system_memory_pool()), kParquetFile));
    parquet::ReaderProperties properties(arrow::system_memory_pool());
    properties.enable_buffered_stream();
    properties.set_buffer_size(kPageBuffer);
    parquet::ArrowReaderProperties arrow_properties(false);
    arrow_properties.set_pre_buffer(false);
    arrow_properties.set_batch_size(rows_);
    parquet::arrow::FileReaderBuilder builder;
    TRY(from_arrow(builder.Open(std::move(file), properties), kParquetFile));
    builder.memory_pool(arrow::system_memory_pool())->properties(arrow_properties);
    reader_ = TRY(from_arrow(builder.Build(), kParquetFile));
    TRY(read_columns());
    map_ = TRY(map_columns(columns_, job_));
    TRY(check_types());
    for (const std::size_t column : map_.kept) {
      auto type = schema_->field(static_cast<int>(column))->type();
      if (type->id() == Type::DICTIONARY)
        type = static_cast<const arrow::DictionaryType&>(*type).value_type();
      kept_.push_back({columns_[column].name, KeptKind::Typed, std::move(type)});
    }
    return begin();
  }

  Result<std::optional<TableChunk>> next() override {
    while (true) {
      auto batch = TRY(from_arrow(batches_->Next(), kParquetFile));
      if (batch == nullptr) return end();
      if (to_skip_ > 0) {
        const std::int64_t skipped = std::min(to_skip_, batch->num_rows());
        to_skip_ -= skipped;
        batch = batch->Slice(skipped);
      }
      if (batch->num_rows() == 0) continue;
      return TRY(make_chunk(*batch));
    }
  }

  const std::vector<KeptField>& kept() const override { return kept_; }
  const ColumnMap& columns() const override { return map_; }
  std::uint64_t total_bytes() const override { return total_bytes_; }

 private:
  // Where the pages of its first column end early, Arrow's batches do, without a word.
  Result<std::optional<TableChunk>> end() const {
    if (row_ == total_rows_) return std::nullopt;
    return refuse(
        reason::kInvalidInput,
        fmt::format("the Parquet file says that it has {} rows, and has {}", total_rows_, row_));
  }

  Status read_columns() {
    TRY(from_arrow(reader_->GetSchema(&schema_), kParquetFile));
    for (const auto& field : schema_->fields()) {
      FileColumn column{.name = field->name(), .list = is_list(*field->type())};
      if (field->type()->id() == Type::FIXED_SIZE_LIST) {
        column.length = static_cast<std::uint64_t>(
            static_cast<const arrow::FixedSizeListType&>(*field->type()).list_size());
      }
      columns_.push_back(std::move(column));
    }
    return {};
  }

  Status check_types() const {
    for (const InputColumns& input : map_.inputs) {
      for (const std::size_t column : input.columns) {
        const auto& type = schema_->field(static_cast<int>(column))->type();
        const auto& value = input.list ? type->field(0)->type() : type;
        if (is_plain(*value)) continue;
        return refuse(reason::kInvalidInput,
                      fmt::format("column '{}' is {}, which makes no input of a function: numbers, "
                                  "booleans, texts and lists of them do",
                                  columns_[column].name, type->ToString().substr(0, 200)));
      }
    }
    return {};
  }

  // Only the columns that are used, from the row group that the position is in.
  Status begin() {
    const auto metadata = reader_->parquet_reader()->metadata();
    const TextPosition position = TRY(parse_text_position(job_.position, UINT64_MAX));
    row_ = position.row;
    total_rows_ = static_cast<std::uint64_t>(std::max<std::int64_t>(metadata->num_rows(), 0));
    to_skip_ = static_cast<std::int64_t>(position.row);
    std::vector<int> groups;
    for (int group = 0; group < metadata->num_row_groups(); ++group) {
      const std::int64_t rows = metadata->RowGroup(group)->num_rows();
      if (rows < 0) return refuse(reason::kInvalidInput, "the Parquet file is damaged");
      if (groups.empty() && to_skip_ >= rows) {
        to_skip_ -= rows;
      } else {
        groups.push_back(group);
      }
    }
    batches_ = TRY(from_arrow(reader_->GetRecordBatchReader(groups, used_leaves()), kParquetFile));
    return {};
  }

  std::vector<int> used_leaves() {
    std::set<std::size_t> used(map_.kept.begin(), map_.kept.end());
    for (const InputColumns& input : map_.inputs)
      used.insert(input.columns.begin(), input.columns.end());
    for (std::size_t i = 0; map_.inputs.empty() && i < columns_.size(); ++i) used.insert(i);
    std::vector<int> leaves;
    places_.assign(columns_.size(), 0);
    int place = 0;
    for (const std::size_t column : used) {
      places_[column] = place++;
      add_leaves(reader_->manifest().schema_fields[column], leaves);
    }
    return leaves;
  }

  Result<std::shared_ptr<arrow::Array>> array_of(const arrow::RecordBatch& batch,
                                                 std::size_t column) const {
    if (places_[column] >= batch.num_columns())
      return refuse(reason::kInvalidInput, "the Parquet file's columns are not what it says");
    return from_arrow(plain_array(batch.column(places_[column])), kParquetFile);
  }

  Result<TableChunk> make_chunk(const arrow::RecordBatch& batch) {
    // Offsets and indices are the file's.
    TRY(from_arrow(batch.Validate(), kParquetFile));
    ChunkBuilder builder(map_, columns_, static_cast<std::size_t>(batch.num_rows()));
    for (std::size_t i = 0; i < map_.inputs.size(); ++i) TRY(put_input(batch, i, builder));
    if (map_.inputs.empty()) TRY(put_documents(batch, builder));
    TableChunk chunk = builder.take(row_);
    for (const std::size_t column : map_.kept) chunk.kept.push_back(TRY(array_of(batch, column)));
    row_ += chunk.rows;
    chunk.position = to_json(TextPosition{0, row_});
    // Rows stand for bytes: where the pages of so many columns are tells nobody anything.
    const double share =
        total_rows_ == 0 ? 1.0 : static_cast<double>(row_) / static_cast<double>(total_rows_);
    chunk.done_bytes =
        static_cast<std::uint64_t>(std::min(share, 1.0) * static_cast<double>(total_bytes_));
    return chunk;
  }

  Status put_input(const arrow::RecordBatch& batch, std::size_t index, ChunkBuilder& builder) {
    const InputColumns& input = map_.inputs[index];
    if (input.list) return put_lists(batch, index, builder);
    for (std::size_t element = 0; element < input.columns.size(); ++element) {
      const auto array = TRY(array_of(batch, input.columns[element]));
      for (std::size_t row = 0; row < builder.rows(); ++row)
        builder.put(row, index, element, arrow_cell(*array, static_cast<std::int64_t>(row)));
    }
    return {};
  }

  Status put_lists(const arrow::RecordBatch& batch, std::size_t index, ChunkBuilder& builder) {
    const InputColumns& input = map_.inputs[index];
    const auto array = TRY(array_of(batch, input.columns[0]));
    for (std::size_t row = 0; row < builder.rows(); ++row) {
      const auto at = static_cast<std::int64_t>(row);
      const ListValues list = array->IsNull(at) ? ListValues{} : list_at(*array, at);
      if (list.values == nullptr || static_cast<std::uint64_t>(list.count) != input.width) {
        builder.fail(row, fmt::format("column '{}' is no list of {} values",
                                      columns_[input.columns[0]].name, input.width));
        continue;
      }
      for (std::int64_t i = 0; i < list.count; ++i) {
        builder.put(row, index, static_cast<std::size_t>(i),
                    arrow_cell(*list.values, list.first + i));
      }
    }
    return {};
  }

  Status put_documents(const arrow::RecordBatch& batch, ChunkBuilder& builder) const {
    std::vector<std::string> documents(builder.rows(), "{");
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      const auto array = TRY(array_of(batch, column));
      std::string key = column == 0 ? "" : ",";
      append_json_string(key, columns_[column].name);
      key += ':';
      for (std::size_t row = 0; row < documents.size(); ++row) {
        documents[row] += key;
        append_arrow_json(documents[row], *array, static_cast<std::int64_t>(row));
      }
    }
    for (std::size_t row = 0; row < documents.size(); ++row)
      builder.set_document(row, std::move(documents[row]) + "}");
    return {};
  }

  const BatchJob job_;
  std::uint32_t rows_;  // of a chunk, at most
  std::unique_ptr<parquet::arrow::FileReader> reader_;
  std::unique_ptr<arrow::RecordBatchReader> batches_;
  std::shared_ptr<arrow::Schema> schema_;
  std::vector<FileColumn> columns_;
  std::vector<int> places_;  // of the columns in a batch
  ColumnMap map_;
  std::vector<KeptField> kept_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t total_rows_ = 0;
  std::int64_t to_skip_ = 0;
  std::uint64_t row_ = 0;
};

}  // namespace

Result<std::unique_ptr<RowReader>> open_parquet(const Path& file, const BatchJob& job,
                                                std::uint32_t rows) {
  auto reader = std::make_unique<ParquetReader>(job, rows);
  TRY(reader->open(file));
  return reader;
}

}  // namespace mayfly
