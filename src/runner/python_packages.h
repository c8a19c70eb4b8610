// What jobs do with Python: install a function's packages (runner/report/resolve_job.h says what
// that is asked and what it leaves), and run its run() and train().
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "runner/python_function.h"

namespace mayfly {

Status install_packages(std::string_view request_json);

// What libmayfly-python.so exports for it: false and a complaint when it fails for a reason that is
// not the packages'.
using InstallEntry = bool (*)(const std::string& request, std::string* complaint);
inline constexpr const char* kInstallEntry = "mayfly_install_packages";

// A slice of the run() of a Python function (runner/report/run_job.h), or of its train()
// (runner/report/function_training.h); with the same entry's form.
Status run_python_job(std::uint32_t threads, std::string_view request_json);
using RunEntry = bool (*)(const PythonTask& task, const std::string& request,
                          std::string* complaint);
inline constexpr const char* kRunEntry = "mayfly_run_job";

}  // namespace mayfly
