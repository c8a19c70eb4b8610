// Reasons of the catalogue in core/reason.cc: of bytes that are elsewhere.
#pragma once

#include <string_view>

namespace mayfly::reason {

inline constexpr std::string_view kStoreUnavailable = "store_unavailable";
inline constexpr std::string_view kSourceFailed = "source_failed";

}  // namespace mayfly::reason
