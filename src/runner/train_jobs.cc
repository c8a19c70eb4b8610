#include "runner/train_jobs.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>

#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {
namespace {

std::unexpected<Error> no_training(std::string_view what) {
  const char* why = ::dlerror();
  return refuse(reason::kStartFailed, fmt::format("{}: {}", what, why == nullptr ? "?" : why));
}

}  // namespace

bool is_train_job(std::string_view request_json) {
  const auto json = parse_json(request_json, "job");
  return json && json->is_object() && (json->contains("train") || json->contains("score"));
}

Status run_train_job(const OnnxRuntime& runtime, int control_fd, std::string_view request_json) {
  // Read when an OpenMP runtime is loaded: threads that wait for each other sleep. Spinning ones
  // make a training up to twenty times slower where others use the processors, too.
  ::setenv("OMP_WAIT_POLICY", "passive", 1);
  void* library = ::dlopen(kTrainLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return no_training(kTrainLibrary);
  const auto entry = reinterpret_cast<TrainJobEntry>(::dlsym(library, kTrainJobEntry));
  if (entry == nullptr) return no_training(kTrainJobEntry);
  std::string complaint;
  if (!entry(runtime, control_fd, std::string(request_json), &complaint))
    return fail(Code::Internal, std::move(complaint));
  return {};
}

}  // namespace mayfly
