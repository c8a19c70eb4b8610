// Where packages of Python functions come from: what the operator says, else what pip is configured
// with on this machine, else what pip itself takes.
#pragma once

#include "app/config.h"
#include "base/result.h"
#include "publish/environments.h"

namespace mayfly {

// Reads PIP_INDEX_URL and PIP_NO_INDEX, then the configuration files that pip reads for this user
// and for the machine.
Result<PackageIndex> package_index(const Config& config);

// "https://user:word@example.org:8443/simple" → "example.org:8443"; the scheme's port where none is
// said. Empty: no http or https URL.
std::string host_of_index(std::string_view url);

// The value of index-url, or of no-index, in the text of a pip.conf; empty: it does not say.
std::string pip_setting(std::string_view text, std::string_view key);

}  // namespace mayfly
