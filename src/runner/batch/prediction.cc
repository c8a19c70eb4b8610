#include "runner/batch/prediction.h"

#include <arrow/array/builder_binary.h>
#include <arrow/array/builder_nested.h>
#include <arrow/array/builder_primitive.h>
#include <arrow/memory_pool.h>
#include <arrow/type.h>
#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <ranges>
#include <utility>

#include "core/json_reader.h"
#include "core/reason.h"
#include "core/wire/json_text.h"
#include "core/wire/small_float.h"
#include "runner/batch/arrow_result.h"

namespace mayfly {
namespace {

constexpr std::string_view kPredictions = "predictions";

std::unexpected<Error> bad_predictions(std::string_view complaint) {
  return refuse(reason::kBadReply, fmt::format("the reply is not as expected: {}", complaint));
}

// The values of one row of an output; nullopt: they vary.
std::optional<std::int64_t> values_of(const TensorSpec& spec) {
  std::int64_t values = 1;
  for (const std::int64_t dimension : spec.shape | std::views::drop(1)) {
    if (dimension < 0) return std::nullopt;
    if (__builtin_mul_overflow(values, dimension, &values) || values > INT32_MAX)
      return std::nullopt;
  }
  return values;
}

std::shared_ptr<arrow::DataType> arrow_type(DataType type) {
  switch (type) {
    case DataType::Bool:
      return arrow::boolean();
    case DataType::Uint8:
      return arrow::uint8();
    case DataType::Uint16:
      return arrow::uint16();
    case DataType::Uint32:
      return arrow::uint32();
    case DataType::Uint64:
      return arrow::uint64();
    case DataType::Int8:
      return arrow::int8();
    case DataType::Int16:
      return arrow::int16();
    case DataType::Int32:
      return arrow::int32();
    case DataType::Int64:
      return arrow::int64();
    case DataType::Fp16:
      return arrow::float16();
    case DataType::Fp32:
    case DataType::Bf16:
      return arrow::float32();
    case DataType::Fp64:
      return arrow::float64();
    case DataType::Bytes:
      return arrow::utf8();
  }
  return arrow::null();
}

// ---- Requests -----------------------------------------------------------------------------------

void append_input_head(std::string& head, const InputColumns& input, std::uint64_t rows,
                       std::uint64_t bytes) {
  head += R"({"name":)";
  append_json_string(head, input.spec.name);
  head += fmt::format(R"(,"datatype":"{}","shape":[{})", to_string(input.spec.type), rows);
  for (const std::int64_t dimension : input.spec.shape) head += fmt::format(",{}", dimension);
  head += fmt::format(R"(],"parameters":{{"binary_data_size":{}}}}})", bytes);
}

// ---- Replies ------------------------------------------------------------------------------------

struct ReplyOutput {
  std::string name;
  DataType type = DataType::Fp32;
  Shape shape;
  std::uint64_t bytes = 0;
};

Result<ReplyOutput> read_output(const Json& json) {
  ReplyOutput output;
  try {
    output.name = json.at("name").get<std::string>();
    output.shape = json.at("shape").get<Shape>();
    output.bytes = json.at("parameters").at("binary_data_size").get<std::uint64_t>();
    const auto type = parse_data_type(json.at("datatype").get<std::string>());
    if (!type) return bad_predictions("an output of an unknown datatype");
    output.type = *type;
  } catch (const Json::exception& e) {
    return bad_predictions(e.what());
  }
  return output;
}

// BYTES: where each row ends, and that all of it is text.
Status find_ends(TensorColumn& column, std::uint64_t rows) {
  std::size_t at = 0;
  for (std::uint64_t i = 0; i < rows * column.width; ++i) {
    std::uint32_t size = 0;
    if (column.bytes.size() - at < sizeof size) return bad_predictions("BYTES that end early");
    std::memcpy(&size, column.bytes.data() + at, sizeof size);
    at += sizeof size;
    if (column.bytes.size() - at < size) return bad_predictions("BYTES that end early");
    const auto* text = reinterpret_cast<const char*>(column.bytes.data() + at);
    if (!is_utf8({text, size})) return bad_predictions("BYTES that are no UTF-8 text");
    at += size;
    if ((i + 1) % column.width == 0) column.ends.push_back(at);
  }
  if (at != column.bytes.size()) return bad_predictions("BYTES that do not end");
  return {};
}

Result<TensorColumn> read_rows(const ReplyOutput& output, const TensorSpec& spec,
                               std::string_view bytes, std::uint64_t rows) {
  if (output.type != spec.type || !fits(output.shape, spec) || output.shape.empty() ||
      static_cast<std::uint64_t>(output.shape[0]) != rows) {
    return bad_predictions(fmt::format("output '{}' is {} {} for {} rows", spec.name,
                                       to_string(output.type), to_string(output.shape), rows));
  }
  const std::uint64_t count = TRY(element_count(output.shape));
  TensorColumn column{.type = spec.type, .width = count / rows, .bytes = {}, .ends = {}};
  const auto data = std::as_bytes(std::span(bytes));
  column.bytes.assign(data.begin(), data.end());
  if (spec.type == DataType::Bytes) {
    if (column.width == 0) {
      column.ends.assign(rows, 0);
    } else {
      TRY(find_ends(column, rows));
    }
  } else if (TRY(byte_count(spec.type, output.shape)) != bytes.size()) {
    return bad_predictions(fmt::format("output '{}' has {} bytes", spec.name, bytes.size()));
  }
  return column;
}

Result<PredictedRows> decode_document(std::string_view body) {
  const auto json = parse_json(body, "the reply");
  if (!json) return bad_predictions(json.error().message);
  return PredictedRows{.count = 1,
                       .outputs = {},
                       .documents = {json->dump(-1, ' ', false, Json::error_handler_t::replace)}};
}

// ---- Columns of the output ----------------------------------------------------------------------

template <typename Builder, typename Value>
arrow::Status append_fixed(arrow::ArrayBuilder& builder, std::span<const std::byte> bytes) {
  auto& typed = static_cast<Builder&>(builder);
  for (; bytes.size() >= sizeof(Value); bytes = bytes.subspan(sizeof(Value))) {
    Value value;
    std::memcpy(&value, bytes.data(), sizeof value);
    ARROW_RETURN_NOT_OK(typed.Append(value));
  }
  return arrow::Status::OK();
}

arrow::Status append_bf16(arrow::ArrayBuilder& builder, std::span<const std::byte> bytes) {
  for (; bytes.size() >= 2; bytes = bytes.subspan(2)) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, bytes.data(), sizeof bits);
    ARROW_RETURN_NOT_OK(static_cast<arrow::FloatBuilder&>(builder).Append(bf16_to_float(bits)));
  }
  return arrow::Status::OK();
}

arrow::Status append_bools(arrow::ArrayBuilder& builder, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    ARROW_RETURN_NOT_OK(static_cast<arrow::BooleanBuilder&>(builder).Append(byte != std::byte{}));
  }
  return arrow::Status::OK();
}

arrow::Status append_texts(arrow::ArrayBuilder& builder, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {  // find_ends has looked
    std::uint32_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    const auto* text = reinterpret_cast<const char*>(bytes.data() + sizeof size);
    ARROW_RETURN_NOT_OK(
        static_cast<arrow::StringBuilder&>(builder).Append(std::string_view(text, size)));
    bytes = bytes.subspan(sizeof size + size);
  }
  return arrow::Status::OK();
}

arrow::Status append_values(arrow::ArrayBuilder& builder, DataType type,
                            std::span<const std::byte> bytes) {
  switch (type) {
    case DataType::Bool:
      return append_bools(builder, bytes);
    case DataType::Uint8:
      return append_fixed<arrow::UInt8Builder, std::uint8_t>(builder, bytes);
    case DataType::Uint16:
      return append_fixed<arrow::UInt16Builder, std::uint16_t>(builder, bytes);
    case DataType::Uint32:
      return append_fixed<arrow::UInt32Builder, std::uint32_t>(builder, bytes);
    case DataType::Uint64:
      return append_fixed<arrow::UInt64Builder, std::uint64_t>(builder, bytes);
    case DataType::Int8:
      return append_fixed<arrow::Int8Builder, std::int8_t>(builder, bytes);
    case DataType::Int16:
      return append_fixed<arrow::Int16Builder, std::int16_t>(builder, bytes);
    case DataType::Int32:
      return append_fixed<arrow::Int32Builder, std::int32_t>(builder, bytes);
    case DataType::Int64:
      return append_fixed<arrow::Int64Builder, std::int64_t>(builder, bytes);
    case DataType::Fp16:
      return append_fixed<arrow::HalfFloatBuilder, std::uint16_t>(builder, bytes);
    case DataType::Fp32:
      return append_fixed<arrow::FloatBuilder, float>(builder, bytes);
    case DataType::Fp64:
      return append_fixed<arrow::DoubleBuilder, double>(builder, bytes);
    case DataType::Bf16:
      return append_bf16(builder, bytes);
    case DataType::Bytes:
      return append_texts(builder, bytes);
  }
  return arrow::Status::Invalid("a datatype");
}

// One row's values into a column: a value, or a list of them.
arrow::Status append_row(arrow::ArrayBuilder& builder, const TensorColumn& column,
                         std::uint64_t row) {
  const auto bytes = column.rows(row, 1);
  if (builder.type()->id() == arrow::Type::FIXED_SIZE_LIST) {
    auto& list = static_cast<arrow::FixedSizeListBuilder&>(builder);
    ARROW_RETURN_NOT_OK(list.Append());
    return append_values(*list.value_builder(), column.type, bytes);
  }
  if (builder.type()->id() == arrow::Type::LIST) {
    auto& list = static_cast<arrow::ListBuilder&>(builder);
    ARROW_RETURN_NOT_OK(list.Append());
    return append_values(*list.value_builder(), column.type, bytes);
  }
  return append_values(builder, column.type, bytes);
}

// Calls `visit(row, rows, place)` for each row of the chunk that has a prediction, and
// `pass(row)` for the others.
template <typename Visit, typename Pass>
arrow::Status for_each_row(const TableChunk& chunk,
                           const std::map<std::uint64_t, PredictedRows>& predicted, Visit visit,
                           Pass pass) {
  std::size_t good = 0;
  auto piece = predicted.begin();
  for (std::uint32_t row = 0; row < chunk.rows; ++row) {
    if (good == chunk.good.size() || chunk.good[good] != row) {
      ARROW_RETURN_NOT_OK(pass());
      continue;
    }
    while (piece != predicted.end() && piece->first + piece->second.count <= good) ++piece;
    if (piece != predicted.end() && piece->first <= good) {
      ARROW_RETURN_NOT_OK(visit(piece->second, good - piece->first));
    } else {
      ARROW_RETURN_NOT_OK(pass());
    }
    ++good;
  }
  return arrow::Status::OK();
}

arrow::Result<std::shared_ptr<arrow::Array>> output_column(
    const TableChunk& chunk, const std::map<std::uint64_t, PredictedRows>& predicted,
    const arrow::DataType& type, std::size_t output) {
  std::unique_ptr<arrow::ArrayBuilder> builder;
  ARROW_RETURN_NOT_OK(
      arrow::MakeBuilder(arrow::system_memory_pool(), type.GetSharedPtr(), &builder));
  ARROW_RETURN_NOT_OK(for_each_row(
      chunk, predicted,
      [&](const PredictedRows& rows, std::uint64_t place) {
        if (!rows.documents.empty())
          return static_cast<arrow::StringBuilder&>(*builder).Append(rows.documents[place]);
        return append_row(*builder, rows.outputs[output], place);
      },
      [&] { return builder->AppendNull(); }));
  return builder->Finish();
}

}  // namespace

std::uint64_t row_bytes(const TableChunk& chunk, RowRange range) {
  std::uint64_t bytes = 0;
  for (const TensorColumn& input : chunk.inputs)
    bytes += input.rows(range.first, range.count).size();
  if (!chunk.documents.empty()) bytes += chunk.documents[range.first].size();
  return bytes;
}

RequestBody encode_rows(const TableChunk& chunk, const ColumnMap& map, RowRange range) {
  if (!chunk.documents.empty()) return {.bytes = chunk.documents[range.first], .header = 0};
  std::string body = R"({"inputs":[)";
  for (std::size_t i = 0; i < map.inputs.size(); ++i) {
    if (i > 0) body += ',';
    append_input_head(body, map.inputs[i], range.count,
                      chunk.inputs[i].rows(range.first, range.count).size());
  }
  body += R"(],"parameters":{"binary_data_output":true}})";
  const std::uint64_t header = body.size();
  body.reserve(header + row_bytes(chunk, range));
  for (const TensorColumn& input : chunk.inputs) {
    const auto bytes = input.rows(range.first, range.count);
    body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  return {.bytes = std::move(body), .header = header};
}

Result<PredictedRows> decode_rows(std::string_view body, std::uint64_t header,
                                  const Signature& signature, std::uint64_t rows) {
  if (signature.inputs.empty()) return decode_document(body);
  const auto head = parse_json(body.substr(0, header), "the reply");
  if (!head) return bad_predictions(head.error().message);
  const auto outputs = head->is_object() ? head->find("outputs") : head->end();
  if (header == 0 || outputs == head->end() || !outputs->is_array())
    return bad_predictions("it has no outputs in binary");
  PredictedRows predicted{.count = rows, .outputs = {}, .documents = {}};
  predicted.outputs.resize(signature.outputs.size());
  std::vector<bool> seen(signature.outputs.size());
  std::string_view rest = body.substr(header);
  for (const Json& item : *outputs) {
    const ReplyOutput output = TRY(read_output(item));
    if (output.bytes > rest.size()) return bad_predictions("it ends early");
    const std::string_view bytes = rest.substr(0, output.bytes);
    rest.remove_prefix(output.bytes);
    const auto index = signature.output_index(output.name);
    if (!index) return bad_predictions(fmt::format("an unknown output '{}'", output.name));
    predicted.outputs[*index] = TRY(read_rows(output, signature.outputs[*index], bytes, rows));
    seen[*index] = true;
  }
  if (std::ranges::find(seen, false) != seen.end()) return bad_predictions("an output is missing");
  return predicted;
}

std::vector<KeptField> prediction_fields(const Signature& signature) {
  if (signature.inputs.empty())
    return {{std::string(kDocumentColumn), KeptKind::Json, arrow::utf8()}};
  std::vector<KeptField> fields;
  for (const TensorSpec& spec : signature.outputs) {
    auto type = arrow_type(spec.type);
    const auto values = values_of(spec);
    if (!values || *values == 0) {
      type = arrow::list(type);
    } else if (spec.shape.size() > 1 && *values != 1) {
      type = arrow::fixed_size_list(type, static_cast<std::int32_t>(*values));
    }
    fields.push_back({spec.name, KeptKind::Typed, std::move(type)});
  }
  return fields;
}

Result<std::shared_ptr<arrow::RecordBatch>> output_rows(
    const TableChunk& chunk, const std::map<std::uint64_t, PredictedRows>& predicted,
    const std::vector<KeptField>& fields, const Signature& signature) {
  std::vector<std::shared_ptr<arrow::Array>> columns = chunk.kept;
  const std::size_t outputs = signature.inputs.empty() ? 1 : signature.outputs.size();
  std::vector<std::shared_ptr<arrow::Field>> names;
  for (const KeptField& field : fields) names.push_back(arrow::field(field.name, field.type));
  for (std::size_t i = 0; i < outputs; ++i) {
    const auto& type = *fields[chunk.kept.size() + i].type;
    columns.push_back(TRY(from_arrow(output_column(chunk, predicted, type, i), kPredictions)));
  }
  return arrow::RecordBatch::Make(arrow::schema(std::move(names)), chunk.rows, std::move(columns));
}

}  // namespace mayfly
