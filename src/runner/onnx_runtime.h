// The ONNX Runtime library and its environment: opened at run time, because its telemetry (on by
// default in the official builds: a thread, files, an uploader) must be switched off before it is
// loaded. One per process, made in the blank and inherited by every fork.
#pragma once

#include <onnxruntime_c_api.h>

#include <memory>
#include <string>

#include "base/file.h"
#include "base/result.h"

namespace mayfly {

// The C API, as the project uses it: each call's OrtStatus becomes a Status.
class OnnxRuntime {
 public:
  // Sets ORT_DISABLE_TELEMETRY, opens libonnxruntime.so.1 (`beside`/../lib/mayfly, then the
  // system's) and creates the environment. Must run before any thread exists. Older than 1.30 is
  // refused.
  static Result<OnnxRuntime> open(const Path& beside);

  const OrtApi& api() const { return *api_; }
  OrtEnv* env() const { return env_; }
  const std::string& version() const { return version_; }

  // Takes the status; ok when it is null.
  Status check(OrtStatus* status) const;

 private:
  OnnxRuntime(const OrtApi* api, OrtEnv* env, std::string version)
      : api_(api), env_(env), version_(std::move(version)) {}
  // Neither is ever released: the library's end tears down what a fork does not own
  // (onnxruntime PR 31961), and every process here leaves by _exit.
  const OrtApi* api_;
  OrtEnv* env_;
  std::string version_;
};

// A type of the ONNX Runtime C API with its release function.
template <typename T>
using OrtOwned = std::unique_ptr<T, void (*)(T*)>;

// A message of ONNX Runtime without what is of no use to a caller: places in its source are
// removed, other absolute paths keep their file name.
std::string clean_ort_message(std::string_view text);

}  // namespace mayfly
