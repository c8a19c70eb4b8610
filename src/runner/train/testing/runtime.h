#pragma once

#include "runner/onnx_runtime.h"

namespace mayfly {

const OnnxRuntime& test_runtime();  // beside the test's own executable

}  // namespace mayfly
