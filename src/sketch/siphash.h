// SipHash-2-4: a keyed hash whose values cannot be chosen without the key (Aumasson, Bernstein:
// "SipHash: a fast short-input PRF", Indocrypt 2012).
#pragma once

#include <cstdint>
#include <string_view>

namespace mayfly {

struct SipKey {
  std::uint64_t k0 = 0;
  std::uint64_t k1 = 0;
};

std::uint64_t siphash(const SipKey& key, std::string_view bytes);

}  // namespace mayfly
