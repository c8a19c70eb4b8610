// Installing a function's packages, inside the jail of a job (runner/report/resolve_job.h says what
// it is asked and what it leaves).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace mayfly {

Status install_packages(std::string_view request_json);

// What libmayfly-python.so exports for it: false and a complaint when it fails for a reason that is
// not the packages'.
using InstallEntry = bool (*)(const std::string& request, std::string* complaint);
inline constexpr const char* kInstallEntry = "mayfly_install_packages";

}  // namespace mayfly
