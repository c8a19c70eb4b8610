// GET /openapi.json: what docs/openapi.yaml says of every function, and beside it each function by
// name, with the schemas that follow from its signature (OpenAPI 3.1, JSON Schema 2020-12). Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/json_reader.h"
#include "core/tensor.h"

namespace mayfly {

struct DescribedFunction {
  std::string_view name;  // as the caller knows it
  const Signature* signature = nullptr;
  bool documents = false;  // the body is what it makes of it
};

// docs/openapi.yaml as JSON; it is part of the program.
std::string openapi_base();

// A value of core/wire/plain_request.h that the input takes: arrays nested like its shape, without
// leading or trailing dimensions that may be 1, or a single value.
Json plain_input_schema(const TensorSpec& input);
// Nested like the shape.
Json plain_output_schema(const TensorSpec& output);

std::string openapi_document(std::span<const DescribedFunction> functions);

}  // namespace mayfly
