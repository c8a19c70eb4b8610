#include "runner/python_function.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/reason.h"
#include "runner/python_packages.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxPlan = 256 * 1024;

std::unexpected<Error> cannot_open(std::string_view what) {
  const char* why = ::dlerror();
  return refuse(reason::kStartFailed, fmt::format("{}: {}", what, why == nullptr ? "?" : why));
}

// The interpreter's names are looked up by every module that is imported later, so they are global;
// ours are not.
Result<void*> open_entry(const char* name) {
  const std::string python = fmt::format("libpython{}.so.1.0", kPythonVersion);
  if (::dlopen(python.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) return cannot_open(python);
  void* library = ::dlopen(kPythonLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return cannot_open(kPythonLibrary);
  void* entry = ::dlsym(library, name);
  if (entry == nullptr) return cannot_open(name);
  return entry;
}

Result<std::unique_ptr<PythonFunction>> start(const PythonTask& task) {
  const auto entry = reinterpret_cast<PythonEntry>(TRY(open_entry(kPythonEntry)));
  std::string complaint;
  std::unique_ptr<PythonFunction> function(entry(task, &complaint));
  if (function == nullptr && complaint.starts_with(kUnfit))
    return fail(Code::Aborted, complaint.substr(kUnfit.size()));
  if (function == nullptr) return refuse(reason::kInvalidModel, std::move(complaint));
  return function;
}

}  // namespace

Result<std::unique_ptr<PythonFunction>> load_python_function(const Path& artifact,
                                                             std::uint32_t threads) {
  std::string plan = TRY(read_file(artifact / "function.json", kMaxPlan));
  return start(
      {.code = (artifact / "function").native(), .plan = std::move(plan), .threads = threads});
}

Result<std::unique_ptr<PythonFunction>> load_python_function(const Path& code,
                                                             const FunctionOptions& options,
                                                             std::uint32_t threads) {
  return start({.code = code.native(), .plan = to_json(options), .threads = threads});
}

Status prepare_python(std::string_view environment, std::uint32_t threads) {
  const auto entry = reinterpret_cast<PrepareEntry>(TRY(open_entry(kPrepareEntry)));
  const std::size_t line = std::min(environment.find('\n'), environment.size());
  const std::string imports(environment.substr(std::min(line + 1, environment.size())));
  const PythonTask task{
      .code = {}, .plan = std::string(environment.substr(0, line)), .threads = threads};
  std::string complaint;
  if (!entry(task, imports, &complaint)) return refuse(reason::kStartFailed, std::move(complaint));
  return {};
}

Status run_python_job(std::uint32_t threads, std::string_view request_json) {
  const auto entry = reinterpret_cast<RunEntry>(TRY(open_entry(kRunEntry)));
  std::string complaint;
  const PythonTask task{.code = "/source/function",
                        .plan = TRY(read_file("/source/function.json", kMaxPlan)),
                        .threads = threads};
  if (!entry(task, std::string(request_json), &complaint))
    return refuse(reason::kStartFailed, std::move(complaint));
  return {};
}

Status install_packages(std::string_view request_json) {
  const auto entry = reinterpret_cast<InstallEntry>(TRY(open_entry(kInstallEntry)));
  std::string complaint;
  if (!entry(std::string(request_json), &complaint))
    return refuse(reason::kPublishFailed, std::move(complaint));
  return {};
}

}  // namespace mayfly
