// The part of the catalogue of reasons (core/reason.h) that is about training.
#pragma once

#include <string_view>

namespace mayfly::reason {

inline constexpr std::string_view kParityFailed = "parity_failed";

}  // namespace mayfly::reason
