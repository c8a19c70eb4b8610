// What the control API says of a function's traffic.
#pragma once

#include <cstdint>

#include "core/json_reader.h"
#include "registry/function_table.h"

namespace mayfly {

// Percent of the function's requests, and of copies of them.
std::uint32_t weight_of(const FunctionEntry& function, VersionNumber version);
std::uint32_t shadow_of(const FunctionEntry& function, VersionNumber version);
// Names, "champion" among them.
Json aliases_of(const FunctionEntry& function, VersionNumber version);

// {"champion":3,"weights":{"3":95,"4":5},"shadows":{},"sticky_header":"","aliases":{"previous":2}}
Json traffic_json(const FunctionEntry& function);

}  // namespace mayfly
