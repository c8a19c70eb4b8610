// Inputs that come as JSON alone, without datatype and shape beside them: what the front doors for
// plain JSON share. Internal to this folder.
#pragma once

#include <cstddef>
#include <string_view>

#include "base/result.h"
#include "core/tensor.h"
#include "core/wire/infer_request.h"

namespace mayfly {

// How a front door reads such an input.
struct JsonInputStyle {
  // The shape that arrays nested like `nesting` mean for `spec`, or a refusal.
  Result<Shape> (*shape_of)(const Shape& nesting, const TensorSpec& spec);
  JsonBytes bytes = JsonBytes::Text;  // what elements of BYTES look like
};

// An unknown name is refused with those that there are.
Result<std::size_t> find_input(const Signature& signature, std::string_view name);
// For values that stand without a name.
Status check_one_input(const Signature& signature);

// Plans input `index`, whose value is `text`, and adds it; a second one of that index is refused.
// `text` lives as long as the request.
Status add_json_input(InferRequest& request, const Signature& signature, std::size_t index,
                      std::string_view text, const JsonInputStyle& style);

}  // namespace mayfly
