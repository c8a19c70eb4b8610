// Which form of a model is served. A pure function of what was measured.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "runner/report/report.h"

namespace mayfly {

// Models whose weights are at least this large are chosen by how soon they answer first.
inline constexpr Bytes kLargeWeights = mib(64);
// A large model's form may run this much slower than the fastest and still be chosen for its start.
inline constexpr double kWarmSlack = 1.10;
// What one start is expected to serve, when the cost of starting is weighed against that of
// running. A template hides most starts, so running counts for much.
inline constexpr int kRunsPerStart = 1000;
// Forms this close in cost are equal within what a measurement on a shared machine can tell.
inline constexpr double kNoise = 1.03;

// The index of the form to serve, or nullopt when none was measured.
//
// Small weights: the least of load + first run + kRunsPerStart warm runs.
// Large weights: the least load + first run among those whose warm run is within kWarmSlack of the
// fastest.
// Among forms within kNoise of that: ONNX before ORT format (its mapped weights are aligned and
// shared by the page), then fewer private MiB, then the first listed.
std::optional<std::size_t> choose(std::span<const Candidate> candidates, Bytes weights);

}  // namespace mayfly
