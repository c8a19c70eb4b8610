// Example files: JSON, as the deployer wrote it. parse_example of runner/publish_trial.h.
#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/json_reader.h"
#include "core/reason.h"
#include "runner/publish_trial.h"

namespace mayfly {
namespace {

std::unexpected<Error> bad(std::string_view name, std::string_view why) {
  return refuse(reason::kInvalidInput, fmt::format("example: input '{}' {}", shown(name), why));
}

template <typename T>
void append(std::vector<std::byte>& bytes, T value) {
  const auto* raw = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), raw, raw + sizeof value);
}

template <typename T>
bool append_integer(std::vector<std::byte>& bytes, const Json& value) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (!std::in_range<T>(number)) return false;
    append(bytes, static_cast<T>(number));
  } else {
    const auto number = value.get<std::int64_t>();
    if (!std::in_range<T>(number)) return false;
    append(bytes, static_cast<T>(number));
  }
  return true;
}

bool append_float(std::vector<std::byte>& bytes, DataType type, double number) {
  const auto narrow = static_cast<float>(number);
  switch (type) {
    case DataType::Fp64:
      append(bytes, number);
      return true;
    case DataType::Fp32:
      append(bytes, narrow);
      return true;
    case DataType::Fp16:
      append(bytes, static_cast<_Float16>(narrow));
      return true;
    default: {
      std::uint32_t bits = 0;
      std::memcpy(&bits, &narrow, sizeof bits);
      append(bytes, static_cast<std::uint16_t>(bits >> 16U));
      return true;
    }
  }
}

bool append_scalar(std::vector<std::byte>& bytes, DataType type, const Json& value) {
  switch (type) {
    case DataType::Bool:
      if (!value.is_boolean()) return false;
      append(bytes, static_cast<std::uint8_t>(value.get<bool>()));
      return true;
    case DataType::Bytes: {
      if (!value.is_string()) return false;
      const auto text = value.get<std::string>();
      append(bytes, static_cast<std::uint32_t>(text.size()));
      const auto* raw = reinterpret_cast<const std::byte*>(text.data());
      bytes.insert(bytes.end(), raw, raw + text.size());
      return true;
    }
    case DataType::Uint8:
      return append_integer<std::uint8_t>(bytes, value);
    case DataType::Uint16:
      return append_integer<std::uint16_t>(bytes, value);
    case DataType::Uint32:
      return append_integer<std::uint32_t>(bytes, value);
    case DataType::Uint64:
      return append_integer<std::uint64_t>(bytes, value);
    case DataType::Int8:
      return append_integer<std::int8_t>(bytes, value);
    case DataType::Int16:
      return append_integer<std::int16_t>(bytes, value);
    case DataType::Int32:
      return append_integer<std::int32_t>(bytes, value);
    case DataType::Int64:
      return append_integer<std::int64_t>(bytes, value);
    default:
      return value.is_number() && append_float(bytes, type, value.get<double>());
  }
}

// Nesting is bounded by parse_json.
Status append_all(TrialTensor& tensor, std::uint64_t& count, const TensorSpec& spec,
                  const Json& value) {
  if (value.is_array()) {
    for (const Json& item : value) TRY(append_all(tensor, count, spec, item));
    return {};
  }
  ++count;
  if (append_scalar(tensor.bytes, spec.type, value)) return {};
  return bad(spec.name, fmt::format("holds a value that is no {}", to_string(spec.type)));
}

// The shape that nested lists show; ragged ones are found by the count afterwards.
Shape nested_shape(const Json& value) {
  Shape shape;
  for (const Json* level = &value; level->is_array() && shape.size() < kMaxRank;
       level = &level->front()) {
    shape.push_back(static_cast<std::int64_t>(level->size()));
    if (level->empty()) break;
  }
  return shape;
}

Result<TrialTensor> read_tensor(std::size_t index, const TensorSpec& spec, const Json& data,
                                std::optional<Shape> shape) {
  TrialTensor tensor{static_cast<std::uint32_t>(index), spec.type, {}, {}};
  std::uint64_t count = 0;
  TRY(append_all(tensor, count, spec, data));
  const bool plain = !shape;
  tensor.shape = plain ? nested_shape(data) : *std::move(shape);
  // Plain values may leave out leading dimensions of 1: one row, one number.
  while (plain && tensor.shape.size() < spec.shape.size() && !fits(tensor.shape, spec)) {
    tensor.shape.insert(tensor.shape.begin(), 1);
  }
  const auto expected = element_count(tensor.shape);
  if (!fits(tensor.shape, spec) || !expected || *expected != count) {
    return bad(spec.name, fmt::format("has {} values for the shape {}; the model wants {}", count,
                                      to_string(tensor.shape), to_string(spec.shape)));
  }
  return tensor;
}

Result<TrialTensor> read_v2(const Json& item, const Signature& signature) {
  if (!item.is_object() || !item.contains("name") || !item["name"].is_string() ||
      !item.contains("data")) {
    return refuse(reason::kInvalidInput, "example: each of \"inputs\" needs \"name\" and \"data\"");
  }
  const auto name = item["name"].get<std::string>();
  const auto index = signature.input_index(name);
  if (!index) return bad(name, "is none of the model's inputs");
  const TensorSpec& spec = signature.inputs[*index];
  if (item.contains("datatype") && item["datatype"] != Json(to_string(spec.type))) {
    return bad(name, fmt::format("is not {}; the model wants {}", item["datatype"].dump(),
                                 to_string(spec.type)));
  }
  std::optional<Shape> shape;
  if (item.contains("shape")) {
    shape.emplace();
    for (const Json& dim : item["shape"]) {
      if (!dim.is_number_integer())
        return bad(name, "has a shape that is no list of whole numbers");
      shape->push_back(dim.get<std::int64_t>());
    }
  }
  return read_tensor(*index, spec, item["data"], std::move(shape));
}

Result<TrialTensors> read_tensors(const Json& json, const Signature& signature) {
  TrialTensors tensors;
  const auto inputs = json.find("inputs");
  const bool v2 = inputs != json.end() && inputs->is_array() && !signature.input_index("inputs");
  if (v2) {
    for (const Json& item : *inputs) tensors.push_back(TRY(read_v2(item, signature)));
    return tensors;
  }
  for (const auto& [name, value] : json.items()) {
    const auto index = signature.input_index(name);
    if (!index) return bad(name, "is none of the model's inputs");
    tensors.push_back(TRY(read_tensor(*index, signature.inputs[*index], value, std::nullopt)));
  }
  return tensors;
}

}  // namespace

Result<std::optional<std::string>> read_example_text(const std::string& example,
                                                     const Path& source) {
  const Path path = source / (example.empty() ? "example.json" : example);
  std::error_code error;
  const auto kind = std::filesystem::symlink_status(path, error).type();
  if (kind == std::filesystem::file_type::not_found && example.empty()) return std::nullopt;
  if (kind != std::filesystem::file_type::regular) {
    return refuse(reason::kInvalidInput,
                  fmt::format("example '{}': no such file", path.filename().native()));
  }
  auto text = read_file(path, kMaxExample);
  if (!text) {
    return refuse(reason::kInvalidInput,
                  fmt::format("example: larger than {} MiB or not readable", kMaxExample >> 20U));
  }
  return *std::move(text);
}

Result<TrialTensors> parse_example(std::string_view text, const Signature& signature) {
  auto json = parse_json(text, "example");
  if (!json) return refuse(reason::kInvalidInput, std::move(json).error().message);
  if (!json->is_object()) return refuse(reason::kInvalidInput, "example: must be an object");
  TrialTensors tensors = TRY(read_tensors(*json, signature));
  std::ranges::sort(tensors, {}, &TrialTensor::index);
  for (std::size_t i = 0; i < signature.inputs.size(); ++i) {
    if (i >= tensors.size() || tensors[i].index != i) {
      return bad(signature.inputs[i].name, "is missing, or given twice");
    }
  }
  if (tensors.size() != signature.inputs.size()) {
    return refuse(reason::kInvalidInput, "example: an input is given twice");
  }
  return tensors;
}

}  // namespace mayfly
