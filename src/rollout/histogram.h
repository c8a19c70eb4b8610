// Durations counted in bins whose edges never depend on the data, so that statements about the
// distribution at an edge are statements about a fixed Bernoulli rate (sequential.h).
//
// Bins are log-linear: each power of two of nanoseconds is cut into 64, so a bin is at most 1.6 %
// wide. Durations from 2^42 ns (73 minutes) on share the last bin. At most 2,368 bins; only those
// in use take memory, a few dozen for a version's run time.
#pragma once

#include <cstdint>
#include <map>

#include "base/clock.h"

namespace mayfly::rollout {

class LogHistogram {
 public:
  static constexpr std::uint32_t kBins = 37 * 64;

  void add(Duration duration) { add_bin(bin_of(duration), 1); }
  void add_bin(std::uint32_t bin, std::uint64_t count);  // bin < kBins
  void merge(const LogHistogram& other);

  std::uint64_t count() const { return count_; }
  const std::map<std::uint32_t, std::uint64_t>& bins() const { return bins_; }
  // The middle of the bin that holds the quantile; 0 when nothing was counted.
  Duration quantile(double share) const;

  static std::uint32_t bin_of(Duration duration);  // negative ones count as 0
  static Duration lower_edge(std::uint32_t bin);   // the first duration of the bin
  bool operator==(const LogHistogram&) const = default;

 private:
  std::map<std::uint32_t, std::uint64_t> bins_;
  std::uint64_t count_ = 0;
};

}  // namespace mayfly::rollout
