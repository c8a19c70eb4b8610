// The JSON bodies of the Open Inference Protocol's other calls, and of errors.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "core/names.h"
#include "core/tensor.h"

namespace mayfly {

std::string server_metadata_json(std::string_view version);  // GET /v2
std::string server_live_json();                              // GET /v2/health/live: {"live":true}
enum class Readiness : bool { No, Yes };
std::string server_ready_json(Readiness ready);  // GET /v2/health/ready: {"ready":true}

struct ModelDescription {
  std::string_view name;
  std::span<const VersionNumber> versions;
  std::string_view runtime;  // "onnx"
  const Signature& signature;
};
std::string model_metadata_json(const ModelDescription& model);  // GET /v2/models/NAME
std::string model_ready_json(std::string_view name, Readiness ready);

}  // namespace mayfly
