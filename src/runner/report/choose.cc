#include "runner/report/choose.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

namespace mayfly {
namespace {

double nanoseconds(Duration duration) { return static_cast<double>(duration.count()); }

double start_cost(const Candidate& candidate) {
  return nanoseconds(candidate.load) + nanoseconds(candidate.first_run);
}

double cost(const Candidate& candidate, Bytes weights) {
  if (weights >= kLargeWeights) return start_cost(candidate);
  return start_cost(candidate) + kRunsPerStart * nanoseconds(candidate.warm_run);
}

std::vector<std::size_t> eligible(std::span<const Candidate> candidates, Bytes weights) {
  double fastest = std::numeric_limits<double>::infinity();
  for (const Candidate& candidate : candidates) {
    if (candidate.skipped.empty()) fastest = std::min(fastest, nanoseconds(candidate.warm_run));
  }
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (!candidates[i].skipped.empty()) continue;
    const bool too_slow = nanoseconds(candidates[i].warm_run) > kWarmSlack * fastest;
    if (weights < kLargeWeights || !too_slow) result.push_back(i);
  }
  return result;
}

}  // namespace

std::optional<std::size_t> choose(std::span<const Candidate> candidates, Bytes weights) {
  std::vector<std::size_t> indices = eligible(candidates, weights);
  if (indices.empty()) return std::nullopt;
  double least = std::numeric_limits<double>::infinity();
  for (const std::size_t i : indices) least = std::min(least, cost(candidates[i], weights));
  std::erase_if(indices,
                [&](std::size_t i) { return cost(candidates[i], weights) > kNoise * least; });
  return *std::ranges::min_element(indices, {}, [&](std::size_t i) {
    return std::tuple(candidates[i].form, candidates[i].private_bytes.count >> 20U, i);
  });
}

}  // namespace mayfly
