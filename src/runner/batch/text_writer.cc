// CSV and JSON lines.
#include <arrow/array/array_nested.h>
#include <arrow/type.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "core/wire/json_text.h"
#include "runner/batch/arrow_text.h"
#include "runner/batch/table_writer.h"

namespace mayfly {
namespace {

constexpr std::size_t kFlushedText = 1 << 20;
// Longer lists stay one column of CSV.
constexpr std::int32_t kMaxSpread = 1024;

// The columns that a list becomes in CSV; 0: it is no such list.
std::int32_t spread_of(const KeptField& field) {
  if (field.type->id() != arrow::Type::FIXED_SIZE_LIST) return 0;
  const auto& list = static_cast<const arrow::FixedSizeListType&>(*field.type);
  const bool plain = !arrow::is_nested(list.value_type()->id());
  return plain && list.list_size() <= kMaxSpread ? list.list_size() : 0;
}

std::string_view stored_text(const arrow::Array& array, std::int64_t row) {
  return static_cast<const arrow::StringArray&>(array).GetView(row);
}

// The text of a JSON value as a CSV field: a string without its quotes, null as nothing.
void append_json_as_csv(std::string& out, std::string_view json) {
  if (json == "null") return;
  if (!json.starts_with('"')) return append_csv_text(out, json);
  const auto value = nlohmann::json::parse(json, nullptr, false);
  append_csv_text(out, value.is_string() ? value.get<std::string>() : std::string(json));
}

class TextWriter final : public TableWriter {
 public:
  TextWriter(Fd file, TableFormat format, std::vector<KeptField> fields)
      : file_(std::move(file)), format_(format), fields_(std::move(fields)) {
    if (format_ == TableFormat::Csv) append_header();
  }

  Status write(const arrow::RecordBatch& batch) override {
    for (std::int64_t row = 0; row < batch.num_rows(); ++row) {
      format_ == TableFormat::Csv ? append_csv_row(batch, row) : append_json_line(batch, row);
      if (text_.size() >= kFlushedText) TRY(flush());
    }
    return {};
  }

  Status close() override {
    TRY(flush());
    file_.reset();
    return {};
  }

 private:
  Status flush() {
    TRY(write_all(file_.get(), text_));
    text_.clear();
    return {};
  }

  void append_header() {
    for (const KeptField& field : fields_) {
      const std::int32_t spread = spread_of(field);
      if (spread == 0) append_csv_text(text_, field.name);
      for (std::int32_t i = 0; i < spread; ++i) {
        if (i > 0) text_ += ',';
        append_csv_text(text_, fmt::format("{}_{}", field.name, i));
      }
      text_ += &field == &fields_.back() ? '\n' : ',';
    }
  }

  void append_csv_row(const arrow::RecordBatch& batch, std::int64_t row) {
    const std::size_t begin = text_.size();
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      if (i > 0) text_ += ',';
      append_field(fields_[i], *batch.column(static_cast<int>(i)), row);
    }
    // A line with nothing in it would be no row.
    if (text_.size() == begin) text_ += "\"\"";
    text_ += '\n';
  }

  void append_field(const KeptField& field, const arrow::Array& array, std::int64_t row) {
    if (const std::int32_t spread = spread_of(field); spread > 0) {
      const auto& list = static_cast<const arrow::FixedSizeListArray&>(array);
      for (std::int32_t i = 0; i < spread; ++i) {
        if (i > 0) text_ += ',';
        if (!list.IsNull(row)) append_arrow_csv(text_, *list.values(), list.value_offset(row) + i);
      }
    } else if (field.kind == KeptKind::Json && !array.IsNull(row)) {
      append_json_as_csv(text_, stored_text(array, row));
    } else {
      append_arrow_csv(text_, array, row);
    }
  }

  void append_json_line(const arrow::RecordBatch& batch, std::int64_t row) {
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      const arrow::Array& array = *batch.column(static_cast<int>(i));
      text_ += i == 0 ? '{' : ',';
      append_json_string(text_, fields_[i].name);
      text_ += ':';
      if (fields_[i].kind == KeptKind::Json && !array.IsNull(row)) {
        text_ += stored_text(array, row);
      } else {
        append_arrow_json(text_, array, row);
      }
    }
    text_ += "}\n";
  }

  Fd file_;
  TableFormat format_;
  std::vector<KeptField> fields_;
  std::string text_;
};

}  // namespace

Result<std::unique_ptr<TableWriter>> create_text(Fd file, TableFormat format,
                                                 std::vector<KeptField> fields) {
  return std::make_unique<TextWriter>(std::move(file), format, std::move(fields));
}

}  // namespace mayfly
