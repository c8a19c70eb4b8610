// The MLmodel file of an MLflow model: YAML that says in which forms ("flavours") the model lies
// beside it. Bytes in, value out. YAML is read event by event (libyaml): aliases are not expanded,
// tags mean nothing, and depth and length are bounded.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly {

inline constexpr const char* kMlmodelFile = "MLmodel";
inline constexpr std::size_t kMaxMlmodel = std::size_t{1} << 20;

// The path of the ONNX model beside it: flavors, onnx, data. invalid_manifest names the flavours
// there are where ONNX is none of them.
Result<std::string> onnx_model_in(std::string_view yaml);

}  // namespace mayfly
