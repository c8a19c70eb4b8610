// The part of the catalogue of reasons (core/reason.h) that is about who asks.
#pragma once

#include <string_view>

namespace mayfly::reason {

inline constexpr std::string_view kUnauthenticated = "unauthenticated";
inline constexpr std::string_view kMissingScope = "missing_scope";
inline constexpr std::string_view kQuotaExceeded = "quota_exceeded";

}  // namespace mayfly::reason
