// The MLmodel of a folder that somebody sent.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "cli/mlmodel.h"
#include "core/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly;
  const auto model = onnx_model_in({reinterpret_cast<const char*>(data), size});
  if (model) CHECK(check_artifact_path(*model));
  return 0;
}
