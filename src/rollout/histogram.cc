#include "rollout/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/check.h"

namespace mayfly::rollout {
namespace {

// Below 2^6 a bin is one nanosecond; above, the highest bit and the six after it name the bin.
constexpr unsigned kBits = 6;
constexpr std::uint64_t kLongest = (std::uint64_t{1} << 42) - 1;

}  // namespace

std::uint32_t LogHistogram::bin_of(Duration duration) {
  const auto ns =
      std::min(static_cast<std::uint64_t>(std::max<Duration::rep>(duration.count(), 0)), kLongest);
  if (ns < (1U << kBits)) return static_cast<std::uint32_t>(ns);
  const auto octave = static_cast<unsigned>(std::bit_width(ns)) - 1 - kBits;
  return (octave << kBits) + static_cast<std::uint32_t>(ns >> octave);
}

Duration LogHistogram::lower_edge(std::uint32_t bin) {
  if (bin < (1U << kBits)) return Duration(bin);
  const unsigned octave = (bin >> kBits) - 1;
  const std::uint64_t mantissa = (bin & ((1U << kBits) - 1)) | (1U << kBits);
  return Duration(static_cast<Duration::rep>(mantissa << octave));
}

void LogHistogram::add_bin(std::uint32_t bin, std::uint64_t count) {
  CHECK(bin < kBins);
  if (count == 0) return;
  bins_[bin] += count;
  count_ += count;
}

void LogHistogram::merge(const LogHistogram& other) {
  for (const auto& [bin, count] : other.bins_) add_bin(bin, count);
}

Duration LogHistogram::quantile(double share) const {
  const double wanted = share * static_cast<double>(count_);
  std::uint64_t seen = 0;
  for (const auto& [bin, count] : bins_) {
    seen += count;
    if (static_cast<double>(seen) >= wanted) {
      return (lower_edge(bin) + lower_edge(bin + 1)) / 2;
    }
  }
  return Duration(0);
}

}  // namespace mayfly::rollout
