// Training, inside the jail of its slice (runner/report/train_job.h). libmayfly-train.so does it;
// it is opened in such a jail, never before.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "runner/onnx_runtime.h"

namespace mayfly {

bool is_train_job(std::string_view request_json);
Status run_train_job(const OnnxRuntime& runtime, int control_fd, std::string_view request_json);

// What the library exports: false and a complaint when there is no result, which is the machine's
// fault and not the data's.
using TrainJobEntry = bool (*)(const OnnxRuntime& runtime, int control_fd,
                               const std::string& request, std::string* complaint);
inline constexpr const char* kTrainJobEntry = "mayfly_run_train_job";
inline constexpr const char* kTrainLibrary = "/runtime/libmayfly-train.so";

}  // namespace mayfly
