#include "runner/train/testing/runtime.h"

#include "base/check.h"

namespace mayfly {

const OnnxRuntime& test_runtime() {
  static const Result<OnnxRuntime> opened =
      OnnxRuntime::open(std::filesystem::read_symlink("/proc/self/exe").parent_path());
  CHECK(opened.has_value());
  return *opened;
}

}  // namespace mayfly
