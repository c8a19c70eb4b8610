#include "core/wire/plain_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/reason.h"
#include "core/wire/json_document.h"
#include "core/wire/json_input.h"

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

constexpr std::uint64_t kLongestTimeout = 1'000'000'000'000;  // µs

constexpr JsonInputStyle kPlainStyle{.shape_of = shape_for};

Status add_named(InferRequest& request, const Signature& signature, std::string_view key,
                 ondemand::value value) {
  const std::size_t index = TRY(find_input(signature, key));
  const std::string_view text = TRY(skip_json_value(value, "the request"));
  return add_json_input(request, signature, index, text, kPlainStyle);
}

Status read_parameter(InferRequest& request, const Signature& signature, std::string_view key,
                      ondemand::value value) {
  constexpr std::string_view kWhat = "parameters of the request";
  if (signature.input_index(key)) return add_named(request, signature, key, value);
  if (key == "timeout") {
    const std::uint64_t us = TRY(json_get(value.get_uint64(), kWhat));
    if (us > 0 && us <= kLongestTimeout) request.timeout = std::chrono::microseconds(us);
    return {};
  }
  if (key == "priority") {
    request.priority = TRY(json_get(value.get_uint64(), kWhat));
    return {};
  }
  TRY(skip_json_value(value, kWhat));
  return {};
}

Status read_generate(ondemand::document& document, const Signature& signature,
                     InferRequest& request) {
  constexpr std::string_view kWhat = "the request";
  const auto read = [&](std::string_view key, ondemand::value value) -> Status {
    if (signature.input_index(key)) return add_named(request, signature, key, value);
    if (key == "parameters") {
      return for_each_field(value, kWhat, [&](std::string_view name, ondemand::value parameter) {
        return read_parameter(request, signature, name, parameter);
      });
    }
    if (key != "id") return add_named(request, signature, key, value);  // which refuses it
    TRY(skip_json_value(value, kWhat));
    return {};
  };
  TRY(for_each_field(document, kWhat, read));
  return end_document(document);
}

Status read_object(ondemand::document& document, const Signature& signature,
                   InferRequest& request) {
  constexpr std::string_view kWhat = "the request";
  const auto read = [&](std::string_view key, ondemand::value value) -> Status {
    return add_named(request, signature, key, value);
  };
  TRY(for_each_field(document, kWhat, read));
  return end_document(document);
}

Status want_all(InferRequest& request, const Signature& signature) {
  TRY(check_complete(request.inputs, signature));
  for (std::uint32_t i = 0; i < signature.outputs.size(); ++i) request.outputs.push_back({i});
  return {};
}

// A bare array or scalar: the whole text is the tensor's.
Status read_bare(const Signature& signature, InferRequest& request) {
  TRY(check_one_input(signature));
  return add_json_input(request, signature, 0, request.text, kPlainStyle);
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
  TRY(want_all(request, signature));
  return request;
}

Result<InferRequest> decode_generate_request(JsonParser& parser, std::string body,
                                             const Signature& signature, const SizeLimit& limit) {
  InferRequest request;
  request.text = std::move(body);
  if (request.text.size() > limit.bytes) return refuse_size("the body", limit);
  ondemand::document document = TRY(begin_document(parser, request.text));
  TRY(read_generate(document, signature, request));
  TRY(want_all(request, signature));
  return request;
}

}  // namespace mayfly
