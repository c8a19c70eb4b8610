#include "core/wire/plain_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/reason.h"
#include "core/wire/json_document.h"
#include "core/wire/tensor_from_json.h"

namespace mayfly {
namespace {

enum class Missing { InFront, AtEnd };

Shape pad(const Shape& nesting, std::size_t rank, Missing where) {
  Shape shape = nesting;
  shape.insert(where == Missing::InFront ? shape.begin() : shape.end(), rank - shape.size(), 1);
  return shape;
}

// An empty array has no elements to nest: [] for [-1,30] is [0,30].
std::optional<Shape> empty_shape(const Shape& nesting, const TensorSpec& spec) {
  if (nesting != Shape{0} || spec.shape.empty() || spec.shape.front() != -1) return std::nullopt;
  Shape shape = spec.shape;
  shape.front() = 0;
  std::ranges::replace(shape, -1, 1);
  return shape;
}

Result<Shape> shape_for(const Shape& nesting, const TensorSpec& spec) {
  if (fits(nesting, spec)) return nesting;
  if (nesting.size() < spec.shape.size()) {
    for (const Missing where : {Missing::InFront, Missing::AtEnd}) {
      Shape padded = pad(nesting, spec.shape.size(), where);
      if (fits(padded, spec)) return padded;
    }
    if (std::optional<Shape> empty = empty_shape(nesting, spec)) return *std::move(empty);
  }
  return refuse(reason::kInvalidInput, fmt::format("its arrays nest like {}, expected {}",
                                                   to_string(nesting), to_string(spec.shape)));
}

Result<InferInput> plan_input(const TensorSpec& spec, std::uint32_t index, std::string_view text) {
  Shape nesting = TRY(json_nesting(text));
  InferInput input{.index = index,
                   .name = spec.name,
                   .type = spec.type,
                   .shape = TRY(shape_for(nesting, spec)),
                   .json = text};
  if (input.shape != nesting) input.nesting = std::move(nesting);
  TRY(size_json_input(input));
  return input;
}

Status add_input(InferRequest& request, const Signature& signature, std::size_t index,
                 std::string_view text) {
  const TensorSpec& spec = signature.inputs[index];
  if (std::ranges::find(request.inputs, index, &InferInput::index) != request.inputs.end()) {
    return refuse_input(spec.name, "is given twice");
  }
  Result<InferInput> input = plan_input(spec, static_cast<std::uint32_t>(index), text);
  if (!input) {
    return std::unexpected(std::move(input).error().in(fmt::format("input '{}'", spec.name)));
  }
  request.inputs.push_back(*std::move(input));
  return {};
}

std::string list_inputs(const Signature& signature) {
  std::string names;
  for (const TensorSpec& spec : signature.inputs) {
    names += fmt::format("{}'{}' {} {}", names.empty() ? "" : ", ", spec.name, to_string(spec.type),
                         to_string(spec.shape));
  }
  return names;
}

Status read_object(ondemand::document& document, const Signature& signature,
                   InferRequest& request) {
  constexpr std::string_view kWhat = "the request";
  ondemand::object object = TRY(json_get(document.get_object(), kWhat));
  for (auto item : object) {
    ondemand::field field = TRY(json_get(std::move(item), kWhat));
    const std::string_view key = TRY(json_get(field.unescaped_key(), kWhat));
    const std::optional<std::size_t> index = signature.input_index(key);
    if (!index) {
      return refuse_input(
          key, fmt::format("the model has no such input; it takes {}", list_inputs(signature)));
    }
    const std::string_view text = TRY(skip_json_value(field.value(), kWhat));
    TRY(add_input(request, signature, *index, text));
  }
  return end_document(document);
}

// A bare array or scalar: the whole text is the tensor's.
Status read_bare(const Signature& signature, InferRequest& request) {
  if (signature.inputs.size() != 1) {
    return refuse(reason::kInvalidInput,
                  fmt::format("the model takes {} inputs; send an object with {}",
                              signature.inputs.size(), list_inputs(signature)));
  }
  return add_input(request, signature, 0, request.text);
}

}  // namespace

Result<InferRequest> decode_plain_request(JsonParser& parser, std::string body,
                                          const Signature& signature, const SizeLimit& limit) {
  InferRequest request;
  request.text = std::move(body);
  if (request.text.size() > limit.bytes) return refuse_size("the body", limit);
  // Checks structure and UTF-8 of the whole text, also where the tensor reader walks alone.
  ondemand::document document = TRY(begin_document(parser, request.text));
  const std::size_t begin = request.text.find_first_not_of(" \t\r\n");
  if (begin != std::string::npos && request.text[begin] == '{') {
    TRY(read_object(document, signature, request));
  } else {
    TRY(read_bare(signature, request));
  }
  TRY(check_complete(request.inputs, signature));
  for (std::uint32_t i = 0; i < signature.outputs.size(); ++i) request.outputs.push_back({i});
  return request;
}

}  // namespace mayfly
