#include "core/wire/json_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "core/reason.h"
#include "core/wire/tensor_from_json.h"

namespace mayfly {
namespace {

std::string list_inputs(const Signature& signature) {
  std::string names;
  for (const TensorSpec& spec : signature.inputs) {
    names += fmt::format("{}'{}' {} {}", names.empty() ? "" : ", ", spec.name, to_string(spec.type),
                         to_string(spec.shape));
  }
  return names;
}

Result<InferInput> plan_input(const TensorSpec& spec, std::size_t index, std::string_view text,
                              const JsonInputStyle& style) {
  const JsonBytes bytes = spec.type == DataType::Bytes ? style.bytes : JsonBytes::Text;
  Shape nesting = TRY(json_nesting(text, bytes));
  InferInput input{.index = static_cast<std::uint32_t>(index),
                   .name = spec.name,
                   .type = spec.type,
                   .shape = TRY(style.shape_of(nesting, spec)),
                   .json = text,
                   .json_bytes = bytes};
  if (input.shape != nesting) input.nesting = std::move(nesting);
  TRY(size_json_input(input));
  return input;
}

}  // namespace

Result<std::size_t> find_input(const Signature& signature, std::string_view name) {
  if (const std::optional<std::size_t> index = signature.input_index(name)) return *index;
  return refuse_input(
      name, fmt::format("the model has no such input; it takes {}", list_inputs(signature)));
}

Status check_one_input(const Signature& signature) {
  if (signature.inputs.size() == 1) return {};
  return refuse(reason::kInvalidInput,
                fmt::format("the model takes {} inputs; send an object with {}",
                            signature.inputs.size(), list_inputs(signature)));
}

Status add_json_input(InferRequest& request, const Signature& signature, std::size_t index,
                      std::string_view text, const JsonInputStyle& style) {
  const TensorSpec& spec = signature.inputs[index];
  if (std::ranges::find(request.inputs, index, &InferInput::index) != request.inputs.end()) {
    return refuse_input(spec.name, "is given twice");
  }
  Result<InferInput> input = plan_input(spec, index, text, style);
  if (!input) {
    return std::unexpected(std::move(input).error().in(fmt::format("input '{}'", spec.name)));
  }
  request.inputs.push_back(*std::move(input));
  return {};
}

}  // namespace mayfly
