#include "runner/train_jobs.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::array kTrainRequests = {"train", "score", "train_facts", "train_check"};

std::unexpected<Error> no_training(std::string_view what) {
  const char* why = ::dlerror();
  return refuse(reason::kStartFailed, fmt::format("{}: {}", what, why == nullptr ? "?" : why));
}

}  // namespace

bool is_train_job(std::string_view request_json) {
  const auto json = parse_json(request_json, "job");
  if (!json || !json->is_object()) return false;
  return std::ranges::any_of(kTrainRequests, [&](const char* key) { return json->contains(key); });
}

Status run_train_job(const OnnxRuntime& runtime, int control_fd, std::string_view request_json) {
  // Read when GNU's OpenMP runtime is loaded: how often its threads look for each other before they
  // sleep. Never costs a third of a training on two quiet processors; as often as is standard makes
  // one up to twenty times slower where others use the processors, too; this costs 3 and 25 %.
  ::setenv("GOMP_SPINCOUNT", "2000", 1);
  // Lazily: most of its symbols are of trainers that this job is not about.
  void* library = ::dlopen(kTrainLibrary, RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return no_training(kTrainLibrary);
  const auto entry = reinterpret_cast<TrainJobEntry>(::dlsym(library, kTrainJobEntry));
  if (entry == nullptr) return no_training(kTrainJobEntry);
  std::string complaint;
  if (!entry(runtime, control_fd, std::string(request_json), &complaint))
    return fail(Code::Internal, std::move(complaint));
  return {};
}

}  // namespace mayfly
