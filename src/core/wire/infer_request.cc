#include "core/wire/infer_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "core/reason.h"
#include "core/rows.h"
#include "core/wire/infer_head.h"
#include "core/wire/tensor_from_json.h"

namespace mayfly {
namespace {

constexpr std::size_t kLengthPrefix = sizeof(std::uint32_t);

std::string describe(const TensorSpec& spec) {
  return fmt::format("'{}' {} {}", spec.name, to_string(spec.type), to_string(spec.shape));
}

template <typename Named>
std::string list_names(std::span<const Named> specs) {
  std::string names;
  for (const Named& spec : specs) {
    names += fmt::format("{}'{}'", names.empty() ? "" : ", ", spec.name);
  }
  return names;
}

template <typename Indexed>
bool has_index(std::span<const Indexed> items, std::uint32_t index) {
  return std::ranges::find(items, index, &Indexed::index) != items.end();
}

// ---- One input of the JSON part against the signature -------------------------------------------

Status size_binary_input(InferInput& input, std::uint64_t announced) {
  input.source = InputSource::Binary;
  input.bytes = announced;
  const std::uint64_t count = TRY(element_count(input.shape));
  if (input.type == DataType::Bytes) {
    if (announced / kLengthPrefix >= count) return {};
    return refuse(reason::kInvalidInput,
                  fmt::format("{} bytes of binary data are too few for the {} elements of shape {}",
                              announced, count, to_string(input.shape)));
  }
  const std::uint64_t expected = TRY(byte_count(input.type, input.shape));
  if (announced == expected) return {};
  return refuse(reason::kInvalidInput,
                fmt::format("has {} bytes of binary data, {} {} needs {}", announced,
                            to_string(input.type), to_string(input.shape), expected));
}

Status refuse_small_float_json(const InferInput& input) {
  if (input.type != DataType::Fp16 && input.type != DataType::Bf16) return {};
  return refuse(reason::kInvalidInput,
                fmt::format("receiving {} data via JSON is not supported. Please use the binary "
                            "data format for input {}",
                            to_string(input.type), input.name));
}

Status check_shared(const SharedRange& shared) {
  if (!shared.region.empty() && shared.size > 0) return {};
  return refuse(reason::kInvalidInput,
                "shared memory is named by shared_memory_region and shared_memory_byte_size");
}

Status size_shared_input(InferInput& input, HeadInput& head) {
  if (head.data || head.binary_size)
    return refuse(reason::kInvalidInput, "has data beside shared_memory_region; use one of them");
  TRY(check_shared(*head.shared));
  TRY(size_binary_input(input, head.shared->size));
  input.source = InputSource::Shared;
  input.shared = std::move(head.shared);
  return {};
}

Status size_input(InferInput& input, HeadInput& head) {
  if (head.shared) return size_shared_input(input, head);
  if (head.data.has_value() == head.binary_size.has_value()) {
    return refuse(reason::kInvalidInput, head.data
                                             ? "has both data and binary_data_size"
                                             : "has neither data nor parameters.binary_data_size");
  }
  if (head.binary_size) return size_binary_input(input, *head.binary_size);
  TRY(refuse_small_float_json(input));
  input.json = *head.data;
  return size_json_input(input);
}

Result<InferInput> bind_input(HeadInput& head, const Signature& signature) {
  if (!head.name) return refuse(reason::kInvalidInput, "an input has no name");
  const std::optional<std::size_t> index = signature.input_index(*head.name);
  if (!index) {
    return refuse_input(*head.name, fmt::format("the model has no such input; it takes {}",
                                                list_names(std::span(signature.inputs))));
  }
  const TensorSpec& spec = signature.inputs[*index];
  if (!head.datatype) return refuse_input(spec.name, "has no datatype");
  if (parse_data_type(*head.datatype) != spec.type) {
    return refuse_input(spec.name, fmt::format("datatype is {}, expected {}", *head.datatype,
                                               to_string(spec.type)));
  }
  if (!head.shape) return refuse_input(spec.name, "has no shape");
  if (!fits(*head.shape, spec)) {
    return refuse_input(spec.name, fmt::format("shape is {}, expected {}", to_string(*head.shape),
                                               to_string(spec.shape)));
  }
  InferInput input{.index = static_cast<std::uint32_t>(*index),
                   .name = spec.name,
                   .type = spec.type,
                   .shape = *std::move(head.shape)};
  if (const Status sized = size_input(input, head); !sized) {
    return std::unexpected(sized.error().in(fmt::format("input '{}'", spec.name)));
  }
  return input;
}

Status bind_inputs(InferHead& head, const Signature& signature, InferRequest& request) {
  request.inputs.reserve(head.inputs.size());
  for (HeadInput& given : head.inputs) {
    InferInput input = TRY(bind_input(given, signature));
    if (has_index(std::span<const InferInput>(request.inputs), input.index)) {
      return refuse_input(input.name, "is given twice");
    }
    request.inputs.push_back(std::move(input));
  }
  return check_complete(request.inputs, signature);
}

Status bind_outputs(const InferHead& head, const Signature& signature, InferRequest& request) {
  for (const HeadOutput& wanted : head.outputs) {
    const std::optional<std::size_t> index = signature.output_index(wanted.name);
    if (!index) {
      return refuse(reason::kInvalidInput,
                    fmt::format("output '{}': the model has no such output; it has {}", wanted.name,
                                list_names(std::span(signature.outputs))));
    }
    const auto number = static_cast<std::uint32_t>(*index);
    if (has_index(std::span<const InferOutput>(request.outputs), number)) {
      return refuse(reason::kInvalidInput,
                    fmt::format("output '{}': is asked for twice", wanted.name));
    }
    if (wanted.classes > kMostClasses) {
      return refuse(reason::kInvalidInput, fmt::format("output '{}': at most {} classes are told",
                                                       wanted.name, kMostClasses));
    }
    if (wanted.classes > 0 && signature.outputs[*index].type == DataType::Bytes) {
      return refuse(reason::kInvalidInput,
                    fmt::format("output '{}': is BYTES, which cannot be classified", wanted.name));
    }
    InferOutput output{.index = number,
                       .form = wanted.form.value_or(head.default_form),
                       .classes = wanted.classes,
                       .shared = wanted.shared};
    if (output.shared) {
      if (const Status named = check_shared(*output.shared); !named)
        return std::unexpected(named.error().in(fmt::format("output '{}'", wanted.name)));
      output.form = OutputForm::Binary;
    }
    request.outputs.push_back(std::move(output));
  }
  if (!head.outputs.empty()) return {};
  for (std::uint32_t i = 0; i < signature.outputs.size(); ++i) {
    request.outputs.push_back({.index = i, .form = head.default_form});
  }
  return {};
}

// The limit holds for what lies in shared memory too: it is copied like a body.
Status sum_binary_bytes(InferRequest& request, const SizeLimit& limit) {
  std::uint64_t total = request.text.size();
  std::uint64_t following = 0;
  for (const InferInput& input : request.inputs) {
    if (input.source == InputSource::Json) continue;
    if (__builtin_add_overflow(total, input.bytes, &total)) return refuse_size("the body", limit);
    if (input.source == InputSource::Binary) following += input.bytes;
  }
  if (total > limit.bytes) return refuse_size("the body", limit);
  request.binary_bytes = following;
  return {};
}

Status bind(InferHead& head, const Signature& signature, const SizeLimit& limit,
            InferRequest& request) {
  TRY(bind_inputs(head, signature, request));
  TRY(bind_outputs(head, signature, request));
  TRY(sum_binary_bytes(request, limit));
  request.id = std::move(head.id);
  request.timeout = head.timeout;
  request.priority = head.priority.value_or(0);
  return {};
}

// ---- Raw mode -----------------------------------------------------------------------------------

// The signature's shape with a leading free dimension made 1 and another computed from the size.
Result<Shape> raw_shape(const TensorSpec& spec, std::uint64_t body_bytes) {
  Shape shape = spec.shape;
  if (!shape.empty() && shape.front() == -1 && shape.size() > 1) shape.front() = 1;
  const auto free = std::ranges::find(shape, -1);
  if (free == shape.end()) return shape;
  if (std::ranges::count(shape, -1) > 1) {
    return refuse_input(spec.name, fmt::format("a request without JSON leaves more than one "
                                               "dimension of {} open",
                                               to_string(spec.shape)));
  }
  *free = 1;
  const std::uint64_t unit = TRY(byte_count(spec.type, shape));
  if (spec.type != DataType::Bytes && unit > 0) {
    *free = static_cast<std::int64_t>(std::min<std::uint64_t>(body_bytes / unit, INT64_MAX));
  }
  return shape;
}

Status check_bytes_tensor(std::span<const std::byte> memory, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint32_t length = 0;
    if (memory.size() < kLengthPrefix) {
      return refuse(reason::kInvalidInput,
                    fmt::format("the binary data ends before element {} of {}", i, count));
    }
    std::memcpy(&length, memory.data(), kLengthPrefix);
    memory = memory.subspan(kLengthPrefix);
    if (length > memory.size()) {
      return refuse(reason::kInvalidInput, fmt::format("element {} claims {} bytes, {} are left", i,
                                                       length, memory.size()));
    }
    memory = memory.subspan(length);
  }
  if (memory.empty()) return {};
  return refuse(reason::kInvalidInput,
                fmt::format("{} bytes follow the last of {} elements", memory.size(), count));
}

Status check_values(const InferInput& input, std::span<const std::byte> memory) {
  if (input.type == DataType::Bytes) {
    return check_bytes_tensor(memory, TRY(element_count(input.shape)));
  }
  if (input.type != DataType::Bool) return {};
  const auto wrong = std::ranges::find_if(memory, [](std::byte b) { return b > std::byte{1}; });
  if (wrong == memory.end()) return {};
  return refuse(reason::kInvalidInput,
                fmt::format("element {} is {}, expected BOOL (0 or 1)", wrong - memory.begin(),
                            static_cast<int>(*wrong)));
}

Status in_input(Status status, const InferInput& input) {
  if (status) return status;
  return std::unexpected(std::move(status).error().in(fmt::format("input '{}'", input.name)));
}

Status check_rows(std::span<const InferInput> inputs, const Signature& signature) {
  if (inputs.size() < 2 || !std::ranges::all_of(signature.inputs, begins_with_rows) ||
      !std::ranges::all_of(signature.outputs, begins_with_rows)) {
    return {};
  }
  const auto empty = [](const InferInput& input) { return input.shape.front() == 0; };
  const auto none = std::ranges::find_if(inputs, empty);
  const auto some = std::ranges::find_if_not(inputs, empty);
  if (none == inputs.end() || some == inputs.end()) return {};
  return refuse_input(none->name, fmt::format("has no rows, but input '{}' has {}", some->name,
                                              some->shape.front()));
}

}  // namespace

Result<std::uint64_t> parse_json_part_length(std::string_view header) {
  std::uint64_t length = 0;
  const char* end = header.data() + header.size();
  const auto [stop, error] = std::from_chars(header.data(), end, length);
  if (error == std::errc() && stop == end) return length;
  return refuse(reason::kBadRequest, "Inference-Header-Content-Length is not a number of bytes");
}

std::unexpected<Error> refuse_input(std::string_view name, std::string_view message) {
  return refuse(reason::kInvalidInput, fmt::format("input '{}': {}", name, message));
}

Status check_complete(std::span<const InferInput> inputs, const Signature& signature) {
  // None twice, none unknown.
  if (inputs.size() == signature.inputs.size()) return check_rows(inputs, signature);
  for (std::uint32_t i = 0; i < signature.inputs.size(); ++i) {
    if (has_index(inputs, i)) continue;
    return refuse_input(signature.inputs[i].name,
                        fmt::format("is missing, expected {}", describe(signature.inputs[i])));
  }
  return {};
}

Status size_json_input(InferInput& input) {
  const std::uint64_t count = TRY(element_count(input.shape));
  // An element takes a character and a comma at least: whoever wants memory sends text for it.
  if (count > (input.json.size() + 1) / 2) {
    return refuse(reason::kInvalidInput,
                  fmt::format("shape {} needs {} elements, the data has fewer",
                              to_string(input.shape), count));
  }
  input.source = InputSource::Json;
  input.bytes =
      input.type == DataType::Bytes
          ? TRY(json_bytes_size(input.json, input.nesting.value_or(input.shape), input.json_bytes))
          : TRY(byte_count(input.type, input.shape));
  return {};
}

Result<InferRequest> decode_infer_request(JsonParser& parser, std::string json_part,
                                          const Signature& signature, const SizeLimit& limit) {
  InferRequest request;
  request.text = std::move(json_part);
  if (request.text.size() > limit.bytes) return refuse_size("the body", limit);
  InferHead head = TRY(parse_infer_head(parser, request.text));
  TRY(bind(head, signature, limit, request));
  return request;
}

Result<InferRequest> bind_infer_request(InferHead& head, const Signature& signature,
                                        const SizeLimit& limit) {
  InferRequest request;
  TRY(bind(head, signature, limit, request));
  return request;
}

Result<InferRequest> raw_infer_request(std::uint64_t body_bytes, const Signature& signature) {
  if (signature.inputs.size() != 1) {
    return refuse(reason::kInvalidInput,
                  fmt::format("a request without JSON needs a model with one input; this one takes "
                              "{}",
                              list_names(std::span(signature.inputs))));
  }
  const TensorSpec& spec = signature.inputs.front();
  InferInput input{.name = spec.name,
                   .type = spec.type,
                   .source = InputSource::Raw,
                   .shape = TRY(raw_shape(spec, body_bytes)),
                   .bytes = body_bytes};
  if (spec.type == DataType::Bytes) {
    if (TRY(element_count(input.shape)) != 1 || body_bytes > UINT32_MAX) {
      return refuse_input(spec.name, "a request without JSON carries one element, below 4 GiB");
    }
    input.bytes += kLengthPrefix;
  } else if (const std::uint64_t expected = TRY(byte_count(spec.type, input.shape));
             expected != body_bytes) {
    return refuse_input(spec.name,
                        fmt::format("the body has {} bytes, {} {} needs {}", body_bytes,
                                    to_string(spec.type), to_string(input.shape), expected));
  }
  InferRequest request;
  request.binary_bytes = body_bytes;
  request.inputs.push_back(std::move(input));
  for (std::uint32_t i = 0; i < signature.outputs.size(); ++i) {
    request.outputs.push_back({.index = i, .form = OutputForm::Binary});
  }
  return request;
}

Status check_binary_size(const InferRequest& request, std::uint64_t following) {
  if (following == request.binary_bytes) return {};
  return refuse(
      reason::kInvalidInput,
      fmt::format("{} bytes follow the JSON part, its inputs announce {} by binary_data_size{}",
                  following, request.binary_bytes,
                  following == 0 ? "; is Inference-Header-Content-Length set?" : ""));
}

Status read_json_input(const InferInput& input, std::span<std::byte> memory) {
  CHECK(input.source == InputSource::Json && memory.size() == input.bytes);
  const Shape& nesting = input.nesting ? *input.nesting : input.shape;
  return in_input(read_json_tensor(input.json, input.type, nesting, memory, input.json_bytes),
                  input);
}

std::span<std::byte> receive_input(const InferInput& input, std::span<std::byte> memory) {
  CHECK(input.source != InputSource::Json && memory.size() == input.bytes);
  if (input.source == InputSource::Binary || input.type != DataType::Bytes) return memory;
  const auto length = static_cast<std::uint32_t>(memory.size() - kLengthPrefix);
  std::memcpy(memory.data(), &length, kLengthPrefix);
  return memory.subspan(kLengthPrefix);
}

Status check_received_input(const InferInput& input, std::span<const std::byte> memory) {
  if (input.form == InputForm::EncodedImage) return {};  // the decoder in the jail judges it
  return in_input(check_values(input, memory), input);
}

}  // namespace mayfly
