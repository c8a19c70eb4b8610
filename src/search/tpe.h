// A tree-structured Parzen estimator (Bergstra, Bardenet, Bengio, Kégl, NeurIPS 2011, "Algorithms
// for Hyper-Parameter Optimization"): a point is drawn from where the better trials so far lie
// densest beside the others, a parameter at a time.
#pragma once

#include <cstdint>
#include <span>

#include "core/json_reader.h"
#include "search/space.h"

namespace mayfly::search {

struct Observation {
  Json point;       // parameters that it lacks, or that lie outside the space, say nothing
  double loss = 0;  // less is better; NaN: it failed, and is among the worse
};

// With fewer observations a point is drawn as `draw` draws it, and every third always. Of more than
// the most, the latest count.
inline constexpr std::size_t kLeastObservations = 10;
inline constexpr std::size_t kMostObservations = 200;

// The point of trial `number`: a function of its arguments alone.
Json propose(const Space& space, std::uint64_t seed, std::uint32_t number,
             std::span<const Observation> seen);

}  // namespace mayfly::search
