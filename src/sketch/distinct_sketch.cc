#include "sketch/distinct_sketch.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "sketch/siphash.h"

namespace mayfly {
namespace {

// Sketches of different streams are merged, so that all hash alike.
constexpr SipKey kHashKey{.k0 = 0x6d61796669796c66U, .k1 = 0x736b657463686573U};

// Ertl's sigma and tau (algorithms 5 and 6 of the paper).
double sigma(double x) {
  if (x == 1) return HUGE_VAL;
  double y = 1;
  double z = x;
  for (double before = -1; z != before;) {
    before = z;
    x *= x;
    z += x * y;
    y += y;
  }
  return z;
}

double tau(double x) {
  if (x == 0 || x == 1) return 0;
  double y = 1;
  double z = 1 - x;
  for (double before = -1; z != before;) {
    before = z;
    x = std::sqrt(x);
    y /= 2;
    z -= (1 - x) * (1 - x) * y;
  }
  return z / 3;
}

}  // namespace

void DistinctSketch::add(std::string_view value) {
  const std::uint64_t hash = siphash(kHashKey, value);
  const auto place = static_cast<std::size_t>(hash >> kMostZeros);
  const std::uint64_t rest = hash << kBits;
  const unsigned zeros = rest == 0 ? kMostZeros : static_cast<unsigned>(std::countl_zero(rest));
  registers_[place] = std::max(registers_[place], static_cast<std::uint8_t>(zeros + 1));
}

void DistinctSketch::merge(const DistinctSketch& other) {
  for (std::size_t i = 0; i < kRegisters; ++i)
    registers_[i] = std::max(registers_[i], other.registers_[i]);
}

std::uint64_t DistinctSketch::estimate() const {
  std::array<double, kMostZeros + 2> counts{};
  for (const std::uint8_t value : registers_) counts.at(value) += 1;
  const auto registers = static_cast<double>(kRegisters);
  double z = registers * tau(1 - counts.at(kMostZeros + 1) / registers);
  for (unsigned k = kMostZeros; k >= 1; --k) z = 0.5 * (z + counts.at(k));
  z += registers * sigma(counts[0] / registers);
  const double alpha = 1 / (2 * std::log(2.0));
  return static_cast<std::uint64_t>(std::llround(alpha * registers * registers / z));
}

void DistinctSketch::append_to(std::string& out) const {
  out.append(reinterpret_cast<const char*>(registers_.data()), registers_.size());
}

Result<DistinctSketch> DistinctSketch::parse(ByteReader& reader) {
  DistinctSketch sketch;
  const std::string_view bytes = TRY(reader.bytes(kRegisters));
  for (std::size_t i = 0; i < kRegisters; ++i) {
    sketch.registers_[i] = static_cast<std::uint8_t>(bytes[i]);
    if (sketch.registers_[i] > kMostZeros + 1)
      return fail(Code::DataLoss, "a sketch of distinct values is damaged");
  }
  return sketch;
}

}  // namespace mayfly
