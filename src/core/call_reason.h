// The part of the catalogue of reasons (core/reason.h) that is about functions that call functions.
#pragma once

#include <string_view>

namespace mayfly::reason {

inline constexpr std::string_view kCallDeadlock = "call_deadlock";
inline constexpr std::string_view kCallTooDeep = "call_too_deep";

}  // namespace mayfly::reason
