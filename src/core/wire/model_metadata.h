// The JSON bodies of the Open Inference Protocol's other calls, and of errors.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "core/names.h"
#include "core/tensor.h"

namespace mayfly {

// What the server has of the protocol's extensions, by their names. Shared memory is there where it
// is configured.
enum class SharedMemory : bool { Off, On };
std::span<const std::string_view> protocol_extensions(SharedMemory shared);
// "onnx" by the protocol's <project>_<format>, and by its name for what runs it.
std::string_view platform_of(std::string_view runtime);
std::string_view backend_of(std::string_view runtime);
std::string_view config_data_type(DataType type);  // "TYPE_FP32", as in model configurations

std::string server_metadata_json(std::string_view version, SharedMemory shared);  // GET /v2
std::string server_live_json();  // GET /v2/health/live: {"live":true}
enum class Readiness : bool { No, Yes };
std::string server_ready_json(Readiness ready);  // GET /v2/health/ready: {"ready":true}

struct ModelDescription {
  std::string_view name;
  std::span<const VersionNumber> versions;
  std::string_view runtime;  // "onnx"
  const Signature& signature;
};
std::string model_metadata_json(const ModelDescription& model);  // GET /v2/models/NAME
struct ModelConfiguration {
  std::string_view name;
  std::string_view runtime;
  std::string_view model_file;
  const Signature& signature;
};
std::string model_config_json(const ModelConfiguration& model);  // GET /v2/models/NAME/config
std::string model_ready_json(std::string_view name, Readiness ready);

}  // namespace mayfly
