#include "runner/batch/arrow_text.h"

#include <arrow/array/array_dict.h>
#include <arrow/array/array_nested.h>
#include <arrow/scalar.h>
#include <arrow/type.h>
#include <arrow/util/float16.h>
#include <fmt/format.h>

#include <cmath>
#include <iterator>
#include <string_view>

#include "core/wire/json_text.h"

namespace mayfly {
namespace {

using arrow::Type;

// What a type has as plain text, quoted nowhere; false: it is no number and no boolean.
template <typename Array>
void append_plain(std::string& out, const arrow::Array& array, std::int64_t row) {
  fmt::format_to(std::back_inserter(out), "{}", static_cast<const Array&>(array).Value(row));
}

double half_value(const arrow::Array& array, std::int64_t row) {
  const auto bits = static_cast<const arrow::HalfFloatArray&>(array).Value(row);
  return static_cast<double>(arrow::util::Float16::FromBits(bits).ToFloat());
}

bool append_number(std::string& out, const arrow::Array& array, std::int64_t row) {
  switch (array.type_id()) {
    case Type::BOOL:
      append_plain<arrow::BooleanArray>(out, array, row);
      return true;
    case Type::INT8:
      append_plain<arrow::Int8Array>(out, array, row);
      return true;
    case Type::INT16:
      append_plain<arrow::Int16Array>(out, array, row);
      return true;
    case Type::INT32:
      append_plain<arrow::Int32Array>(out, array, row);
      return true;
    case Type::INT64:
      append_plain<arrow::Int64Array>(out, array, row);
      return true;
    case Type::UINT8:
      append_plain<arrow::UInt8Array>(out, array, row);
      return true;
    case Type::UINT16:
      append_plain<arrow::UInt16Array>(out, array, row);
      return true;
    case Type::UINT32:
      append_plain<arrow::UInt32Array>(out, array, row);
      return true;
    case Type::UINT64:
      append_plain<arrow::UInt64Array>(out, array, row);
      return true;
    case Type::FLOAT:
      append_plain<arrow::FloatArray>(out, array, row);
      return true;
    case Type::DOUBLE:
      append_plain<arrow::DoubleArray>(out, array, row);
      return true;
    case Type::HALF_FLOAT:
      fmt::format_to(std::back_inserter(out), "{}", half_value(array, row));
      return true;
    default:
      return false;
  }
}

bool is_finite(const arrow::Array& array, std::int64_t row) {
  switch (array.type_id()) {
    case Type::FLOAT:
      return std::isfinite(static_cast<const arrow::FloatArray&>(array).Value(row));
    case Type::DOUBLE:
      return std::isfinite(static_cast<const arrow::DoubleArray&>(array).Value(row));
    case Type::HALF_FLOAT:
      return std::isfinite(half_value(array, row));
    default:
      return true;
  }
}

std::string text_value(const arrow::Array& array, std::int64_t row) {
  switch (array.type_id()) {
    case Type::STRING:
    case Type::BINARY:
      return std::string(static_cast<const arrow::BinaryArray&>(array).GetView(row));
    case Type::LARGE_STRING:
    case Type::LARGE_BINARY:
      return std::string(static_cast<const arrow::LargeBinaryArray&>(array).GetView(row));
    case Type::FIXED_SIZE_BINARY:
      return std::string(static_cast<const arrow::FixedSizeBinaryArray&>(array).GetView(row));
    default: {
      const auto scalar = array.GetScalar(row);
      return scalar.ok() ? (*scalar)->ToString() : std::string();
    }
  }
}

void append_json_items(std::string& out, const arrow::Array& values, std::int64_t first,
                       std::int64_t count) {
  out += '[';
  for (std::int64_t i = 0; i < count; ++i) {
    if (i > 0) out += ',';
    append_arrow_json(out, values, first + i);
  }
  out += ']';
}

template <typename List>
void append_list(std::string& out, const arrow::Array& array, std::int64_t row) {
  const auto& list = static_cast<const List&>(array);
  append_json_items(out, *list.values(), list.value_offset(row), list.value_length(row));
}

void append_struct(std::string& out, const arrow::Array& array, std::int64_t row) {
  const auto& fields = static_cast<const arrow::StructArray&>(array);
  out += '{';
  for (int i = 0; i < fields.num_fields(); ++i) {
    if (i > 0) out += ',';
    append_json_string(out, fields.type()->field(i)->name());
    out += ':';
    append_arrow_json(out, *fields.field(i), row);
  }
  out += '}';
}

// Lists, objects and what a dictionary names; false: it is none of them.
bool append_nested(std::string& out, const arrow::Array& array, std::int64_t row) {
  switch (array.type_id()) {
    case Type::LIST:
      append_list<arrow::ListArray>(out, array, row);
      return true;
    case Type::LARGE_LIST:
      append_list<arrow::LargeListArray>(out, array, row);
      return true;
    case Type::FIXED_SIZE_LIST:
      append_list<arrow::FixedSizeListArray>(out, array, row);
      return true;
    case Type::STRUCT:
      append_struct(out, array, row);
      return true;
    default:
      return false;
  }
}

}  // namespace

void append_arrow_json(std::string& out, const arrow::Array& array, std::int64_t row) {
  if (array.IsNull(row) || !is_finite(array, row)) {
    out += "null";
  } else if (!append_number(out, array, row) && !append_nested(out, array, row)) {
    append_json_string(out, text_value(array, row));
  }
}

void append_csv_text(std::string& out, std::string_view text) {
  if (!text.empty() && text.find_first_of(",\"\r\n") == std::string_view::npos) {
    out += text;
    return;
  }
  out += '"';
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  out += '"';
}

void append_arrow_csv(std::string& out, const arrow::Array& array, std::int64_t row) {
  if (array.IsNull(row) || append_number(out, array, row)) return;
  std::string nested;
  append_csv_text(out, append_nested(nested, array, row) ? nested : text_value(array, row));
}

}  // namespace mayfly
