#include "grpc/infer_codec.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "core/reason.h"

namespace mayfly {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedInputStream;
using inference::InferParameter;
using inference::InferTensorContents;
using inference::ModelInferRequest;
using Parameters = google::protobuf::Map<std::string, InferParameter>;

// ---- Before parsing -----------------------------------------------------------------------------

constexpr std::size_t kMaxParameters = 4096;       // of a message, everywhere in it
constexpr std::size_t kMaxElements = 1024 * 1024;  // of typed BYTES: raw ones have no such limit
// Of typed numbers and shapes, as they are packed: parsed, they may take sixteen times that.
constexpr std::size_t kMaxPacked = 16 * 1024 * 1024;
// Fields that are no texts, messages or packed numbers, everywhere in the message.
constexpr std::size_t kMaxLoose = 1024 * 1024;

constexpr int kParametersField = 4;
constexpr int kInputsField = 5;
constexpr int kOutputsField = 6;
constexpr int kRawField = 7;
constexpr int kShapeField = 3;             // of an input
constexpr int kContentsField = 5;          // of an input
constexpr int kOutputParametersField = 2;  // of an output
constexpr int kBytesField = 8;             // of contents

struct Counts {
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  std::size_t raw = 0;
  std::size_t parameters = 0;
  std::size_t elements = 0;
  std::size_t packed = 0;
  std::size_t loose = 0;
  bool within_limits() const {
    return inputs <= kMaxTensors && outputs <= kMaxTensors && raw <= kMaxTensors &&
           parameters <= kMaxParameters && elements <= kMaxElements && packed <= kMaxPacked &&
           loose <= kMaxLoose;
  }
};

// Calls `field(number)` for each field; where it says that it has read the field, goes on behind
// it.
template <typename Field>
bool each_field(CodedInputStream& in, Counts& counts, Field field) {
  while (const std::uint32_t tag = in.ReadTag()) {
    if (WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      const std::optional<bool> read = field(WireFormatLite::GetTagFieldNumber(tag));
      if (read == false) return false;
      if (read == true) continue;
    } else if (++counts.loose > kMaxLoose) {
      return false;
    }
    if (!WireFormatLite::SkipField(&in, tag)) return false;
  }
  return true;
}

// The same for the fields of the message that comes next.
template <typename Field>
bool each_field_inside(CodedInputStream& in, Counts& counts, Field field) {
  std::uint32_t length = 0;
  if (!in.ReadVarint32(&length) || length > INT32_MAX) return false;
  const CodedInputStream::Limit limit = in.PushLimit(static_cast<int>(length));
  const bool read = each_field(in, counts, field);
  in.PopLimit(limit);
  return read;
}

bool count_packed(CodedInputStream& in, Counts& counts) {
  std::uint32_t length = 0;
  if (!in.ReadVarint32(&length) || length > kMaxPacked) return false;
  counts.packed += length;
  return counts.packed <= kMaxPacked && in.Skip(static_cast<int>(length));
}

bool count_input(CodedInputStream& in, Counts& counts) {
  const auto element = [&](int number) -> std::optional<bool> {
    if (number != kBytesField) return count_packed(in, counts);
    if (++counts.elements > kMaxElements) return false;
    return std::nullopt;
  };
  return each_field_inside(in, counts, [&](int number) -> std::optional<bool> {
    if (number == kParametersField && ++counts.parameters > kMaxParameters) return false;
    if (number == kShapeField) return count_packed(in, counts);
    if (number == kContentsField) return each_field_inside(in, counts, element);
    return std::nullopt;
  });
}

bool count_output(CodedInputStream& in, Counts& counts) {
  return each_field_inside(in, counts, [&](int number) -> std::optional<bool> {
    if (number == kOutputParametersField && ++counts.parameters > kMaxParameters) return false;
    return std::nullopt;
  });
}

std::optional<bool> count_field(CodedInputStream& in, int number, Counts& counts) {
  switch (number) {
    case kInputsField:
      return ++counts.inputs <= kMaxTensors && count_input(in, counts);
    case kOutputsField:
      return ++counts.outputs <= kMaxTensors && count_output(in, counts);
    case kParametersField:
      ++counts.parameters;
      break;
    case kRawField:
      ++counts.raw;
      break;
    default:
      break;
  }
  if (!counts.within_limits()) return false;
  return std::nullopt;
}

// ---- The head -----------------------------------------------------------------------------------

std::unexpected<Error> bad(std::string message) {
  return refuse(reason::kBadRequest, std::move(message));
}

std::unexpected<Error> unsupported(std::string_view parameter) {
  return refuse(reason::kUnsupported,
                fmt::format("parameter '{}' is not supported by this server", parameter));
}

// Clients send whole numbers as either kind.
Result<std::uint64_t> whole_number(std::string_view key, const InferParameter& value) {
  if (value.parameter_choice_case() == InferParameter::kUint64Param) return value.uint64_param();
  if (value.parameter_choice_case() == InferParameter::kInt64Param && value.int64_param() >= 0) {
    return static_cast<std::uint64_t>(value.int64_param());
  }
  return bad(fmt::format("parameter '{}' must be a whole number", key));
}

// Only what would start, continue or end a sequence is refused: clients send the defaults too.
bool is_default(const InferParameter& value) {
  switch (value.parameter_choice_case()) {
    case InferParameter::kBoolParam:
      return !value.bool_param();
    case InferParameter::kInt64Param:
      return value.int64_param() == 0;
    case InferParameter::kUint64Param:
      return value.uint64_param() == 0;
    case InferParameter::kStringParam:
      return value.string_param().empty();
    default:
      return false;
  }
}

Status request_parameter(std::string_view key, const InferParameter& value, InferHead& head) {
  if (key == "timeout") {
    head.timeout = infer_timeout(TRY(whole_number(key, value)));
    return {};
  }
  if (key == "priority") {
    head.priority = TRY(whole_number(key, value));
    return {};
  }
  const bool of_sequence = key == "sequence_id" || key == "sequence_start" || key == "sequence_end";
  if (of_sequence && !is_default(value)) return unsupported(key);
  return {};
}

// shared_memory_region, _byte_size, _offset.
Result<std::optional<SharedRange>> shared_range(const Parameters& parameters) {
  std::optional<SharedRange> shared;
  for (const auto& [key, value] : parameters) {
    if (!key.starts_with("shared_memory_")) continue;
    if (!shared) shared.emplace();
    if (key == "shared_memory_region") {
      shared->region = value.string_param();
    } else if (key == "shared_memory_byte_size") {
      shared->size = TRY(whole_number(key, value));
    } else if (key == "shared_memory_offset") {
      shared->offset = TRY(whole_number(key, value));
    } else {
      return unsupported(key);
    }
  }
  return shared;
}

// The elements that `contents` holds for the type, and whether they stand in its field.
struct Typed {
  std::uint64_t bytes = 0;     // of the tensor
  std::uint64_t elements = 0;  // in the type's own field
};

std::uint64_t all_elements(const InferTensorContents& contents) {
  return static_cast<std::uint64_t>(contents.bool_contents_size()) +
         static_cast<std::uint64_t>(contents.int_contents_size()) +
         static_cast<std::uint64_t>(contents.int64_contents_size()) +
         static_cast<std::uint64_t>(contents.uint_contents_size()) +
         static_cast<std::uint64_t>(contents.uint64_contents_size()) +
         static_cast<std::uint64_t>(contents.fp32_contents_size()) +
         static_cast<std::uint64_t>(contents.fp64_contents_size()) +
         static_cast<std::uint64_t>(contents.bytes_contents_size());
}

std::uint64_t elements_of(const InferTensorContents& contents, DataType type) {
  const auto count = [&]() -> int {
    switch (type) {
      case DataType::Bool:
        return contents.bool_contents_size();
      case DataType::Int8:
      case DataType::Int16:
      case DataType::Int32:
        return contents.int_contents_size();
      case DataType::Int64:
        return contents.int64_contents_size();
      case DataType::Uint8:
      case DataType::Uint16:
      case DataType::Uint32:
        return contents.uint_contents_size();
      case DataType::Uint64:
        return contents.uint64_contents_size();
      case DataType::Fp32:
        return contents.fp32_contents_size();
      case DataType::Fp64:
        return contents.fp64_contents_size();
      case DataType::Bytes:
        return contents.bytes_contents_size();
      case DataType::Fp16:
      case DataType::Bf16:
        return 0;
    }
    return 0;
  };
  return static_cast<std::uint64_t>(count());
}

Result<std::uint64_t> typed_bytes(const ModelInferRequest::InferInputTensor& input) {
  const std::optional<DataType> type = parse_data_type(input.datatype());
  if (!type) return 0;  // said when it is compared with the signature
  if (*type == DataType::Fp16 || *type == DataType::Bf16) {
    return refuse_input(input.name(), fmt::format("{} has no typed contents; send it in "
                                                  "raw_input_contents",
                                                  input.datatype()));
  }
  const std::uint64_t elements = elements_of(input.contents(), *type);
  if (elements != all_elements(input.contents())) {
    return refuse_input(input.name(),
                        fmt::format("its contents are not in the field for {}", input.datatype()));
  }
  if (*type != DataType::Bytes) return elements * element_size(*type);
  std::uint64_t bytes = elements * sizeof(std::uint32_t);
  for (const std::string& element : input.contents().bytes_contents()) bytes += element.size();
  return bytes;
}

std::unexpected<Error> wrong_raw_count(const ModelInferRequest& message) {
  return bad(
      fmt::format("{} inputs, but {} raw_input_contents: each input has one, unless it lies "
                  "in shared memory",
                  message.inputs_size(), message.raw_input_contents_size()));
}

Status read_inputs(const ModelInferRequest& message, InferHead& head) {
  const bool raw = message.raw_input_contents_size() > 0;
  int next_raw = 0;  // what lies in shared memory has none
  for (const auto& input : message.inputs()) {
    std::optional<SharedRange> shared = TRY(shared_range(input.parameters()));
    if ((raw || shared) && all_elements(input.contents()) > 0) {
      return refuse_input(input.name(),
                          fmt::format("has contents beside {}; use one of them",
                                      shared ? "shared memory" : "raw_input_contents"));
    }
    if (static_cast<std::size_t>(input.shape_size()) > kMaxRank) {
      return refuse_input(input.name(), fmt::format("has {} dimensions; at most {} are possible",
                                                    input.shape_size(), kMaxRank));
    }
    std::optional<std::uint64_t> bytes;
    if (!shared && raw) {
      if (next_raw == message.raw_input_contents_size()) return wrong_raw_count(message);
      bytes = message.raw_input_contents(next_raw++).size();
    } else if (!shared) {
      bytes = TRY(typed_bytes(input));
    }
    head.inputs.push_back({.name = input.name(),
                           .datatype = input.datatype(),
                           .shape = Shape(input.shape().begin(), input.shape().end()),
                           .data = {},
                           .binary_size = bytes,
                           .shared = std::move(shared)});
  }
  if (raw && next_raw != message.raw_input_contents_size()) return wrong_raw_count(message);
  return {};
}

Status read_outputs(const ModelInferRequest& message, InferHead& head) {
  for (const auto& output : message.outputs()) {
    HeadOutput wanted{.name = output.name(), .form = OutputForm::Binary};
    wanted.shared = TRY(shared_range(output.parameters()));
    const auto classes = output.parameters().find("classification");
    if (classes != output.parameters().end()) {
      wanted.classes = TRY(whole_number("classification", classes->second));
    }
    head.outputs.push_back(std::move(wanted));
  }
  return {};
}

// ---- Tensors ------------------------------------------------------------------------------------

template <typename To, typename Values>
Status copy_values(const Values& values, const InferInput& input, std::span<std::byte> memory) {
  std::size_t at = 0;
  for (const auto value : values) {
    if constexpr (std::is_integral_v<To> && !std::is_same_v<To, bool>) {
      if (!std::in_range<To>(value)) {
        return refuse_input(input.name, fmt::format("element {} is {}, which {} does not hold", at,
                                                    value, to_string(input.type)));
      }
    }
    const To converted = static_cast<To>(value);
    std::memcpy(memory.data() + at * sizeof(To), &converted, sizeof(To));
    ++at;
  }
  return {};
}

void copy_bytes(const InferTensorContents& contents, std::span<std::byte> memory) {
  for (const std::string& element : contents.bytes_contents()) {
    const auto length = static_cast<std::uint32_t>(element.size());
    std::memcpy(memory.data(), &length, sizeof(length));
    std::ranges::copy(std::as_bytes(std::span(element)), memory.data() + sizeof(length));
    memory = memory.subspan(sizeof(length) + element.size());
  }
}

Status copy_typed(const InferTensorContents& contents, const InferInput& input,
                  std::span<std::byte> memory) {
  switch (input.type) {
    case DataType::Bool:
      return copy_values<bool>(contents.bool_contents(), input, memory);
    case DataType::Int8:
      return copy_values<std::int8_t>(contents.int_contents(), input, memory);
    case DataType::Int16:
      return copy_values<std::int16_t>(contents.int_contents(), input, memory);
    case DataType::Int32:
      return copy_values<std::int32_t>(contents.int_contents(), input, memory);
    case DataType::Int64:
      return copy_values<std::int64_t>(contents.int64_contents(), input, memory);
    case DataType::Uint8:
      return copy_values<std::uint8_t>(contents.uint_contents(), input, memory);
    case DataType::Uint16:
      return copy_values<std::uint16_t>(contents.uint_contents(), input, memory);
    case DataType::Uint32:
      return copy_values<std::uint32_t>(contents.uint_contents(), input, memory);
    case DataType::Uint64:
      return copy_values<std::uint64_t>(contents.uint64_contents(), input, memory);
    case DataType::Fp32:
      return copy_values<float>(contents.fp32_contents(), input, memory);
    case DataType::Fp64:
      return copy_values<double>(contents.fp64_contents(), input, memory);
    case DataType::Bytes:
      copy_bytes(contents, memory);
      return {};
    case DataType::Fp16:
    case DataType::Bf16:
      break;
  }
  CHECK(memory.empty());  // typed_bytes has refused these
  return {};
}

// ---- Replies ------------------------------------------------------------------------------------

void append_field(std::string& text, int field, std::size_t length) {
  const std::uint32_t tag =
      WireFormatLite::MakeTag(field, WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  for (std::uint64_t rest : {std::uint64_t{tag}, std::uint64_t{length}}) {
    for (; rest >= 0x80; rest >>= 7) text += static_cast<char>((rest & 0x7F) | 0x80);
    text += static_cast<char>(rest);
  }
}

void describe_shared(const ReplyTensor& tensor, Parameters& parameters) {
  parameters["shared_memory_region"].set_string_param(tensor.shared->region);
  parameters["shared_memory_offset"].set_int64_param(
      static_cast<std::int64_t>(tensor.shared->offset));
  parameters["shared_memory_byte_size"].set_int64_param(
      static_cast<std::int64_t>(tensor.bytes.size()));
}

}  // namespace

Status check_infer_message(google::protobuf::io::ZeroCopyInputStream& stream) {
  CodedInputStream in(&stream);
  Counts counts;
  each_field(in, counts, [&](int number) { return count_field(in, number, counts); });
  if (counts.within_limits()) return {};
  return refuse(
      reason::kTooLarge,
      fmt::format("the message has more than {} tensors, {} parameters, {} typed BYTES or "
                  "{} bytes of typed numbers (raw_input_contents has no such limits)",
                  kMaxTensors, kMaxParameters, kMaxElements, kMaxPacked));
}

Result<InferHead> head_of(const ModelInferRequest& message) {
  InferHead head;
  head.id = message.id();
  head.default_form = OutputForm::Binary;
  for (const auto& [key, value] : message.parameters()) {
    TRY(request_parameter(key, value, head));
  }
  TRY(read_inputs(message, head));
  TRY(read_outputs(message, head));
  return head;
}

Status fill_input(const ModelInferRequest& message, GivenInput given, const InferInput& input,
                  std::span<std::byte> memory) {
  if (message.raw_input_contents_size() > 0) {
    const std::string& raw = message.raw_input_contents(static_cast<int>(given.raw));
    CHECK(raw.size() == memory.size());
    std::ranges::copy(std::as_bytes(std::span(raw)), memory.begin());
  } else {
    TRY(copy_typed(message.inputs(static_cast<int>(given.input)).contents(), input, memory));
  }
  return check_received_input(input, memory);
}

Result<std::string> encode_infer_response(const InferReply& reply, const SizeLimit& limit) {
  inference::ModelInferResponse head;
  head.set_model_name(std::string(reply.model_name));
  head.set_model_version(std::string(reply.model_version));
  head.set_id(std::string(reply.id));
  std::uint64_t bytes = 0;
  for (const ReplyTensor& tensor : reply.outputs) {
    auto& output = *head.add_outputs();
    output.set_name(std::string(tensor.name));
    output.set_datatype(std::string(to_string(tensor.type)));
    for (const std::int64_t dimension : tensor.shape) output.add_shape(dimension);
    if (tensor.shared != nullptr) {
      describe_shared(tensor, *output.mutable_parameters());
    } else {
      bytes += tensor.bytes.size();
    }
  }
  std::string text = head.SerializeAsString();
  if (text.size() + bytes > limit.bytes) return refuse_size("the reply", limit);
  constexpr std::size_t kAroundTensor = 16;
  text.reserve(text.size() + bytes + kAroundTensor * reply.outputs.size());
  for (const ReplyTensor& tensor : reply.outputs) {
    // Clients find the i-th output's bytes at the i-th place, so that there is an empty one as
    // well.
    const std::size_t size = tensor.shared == nullptr ? tensor.bytes.size() : 0;
    append_field(text, inference::ModelInferResponse::kRawOutputContentsFieldNumber, size);
    text.append(reinterpret_cast<const char*>(tensor.bytes.data()), size);
  }
  return text;
}

bool wants_final_response(const ModelInferRequest& message) {
  const auto found = message.parameters().find("triton_enable_empty_final_response");
  return found != message.parameters().end() && found->second.bool_param();
}

// Of a message that follows another one in the same bytes the fields are the first one's too
// (protobuf.dev/programming-guides/encoding/#last-one-wins).
std::string final_response_mark(FinalResponse final_response) {
  inference::ModelInferResponse mark;
  (*mark.mutable_parameters())["triton_final_response"].set_bool_param(final_response ==
                                                                       FinalResponse::Yes);
  return mark.SerializeAsString();
}

std::string wrap_infer_response(std::string_view response) {
  std::string text;
  text.reserve(response.size() + 16);
  append_field(text, inference::ModelStreamInferResponse::kInferResponseFieldNumber,
               response.size());
  return text.append(response);
}

}  // namespace mayfly
