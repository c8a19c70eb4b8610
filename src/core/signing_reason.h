// The part of the catalogue of reasons (core/reason.h) that is about signatures.
#pragma once

#include <string_view>

namespace mayfly::reason {

inline constexpr std::string_view kInvalidSignature = "invalid_signature";
inline constexpr std::string_view kUntrustedSigner = "untrusted_signer";

}  // namespace mayfly::reason
