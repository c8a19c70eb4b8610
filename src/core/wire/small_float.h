// FP16 (IEEE 754 binary16) and BF16 (the upper half of a binary32) as bits, to and from what C++
// computes with. Conversions round to the nearest, ties to even.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace mayfly {

inline float fp16_to_float(std::uint16_t bits) {
  return static_cast<float>(std::bit_cast<_Float16>(bits));
}
inline std::uint16_t fp16_from_double(double value) {
  return std::bit_cast<std::uint16_t>(static_cast<_Float16>(value));
}

inline float bf16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}
inline std::uint16_t bf16_from_float(float value) {
  if (std::isnan(value)) return 0x7FC0;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  // Adding just under half a unit, or half of it where the kept part is odd, makes the cut a
  // rounding.
  return static_cast<std::uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

}  // namespace mayfly
