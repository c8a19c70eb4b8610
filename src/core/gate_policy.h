// What a trained version must show before it gets any of its function's requests: the key `gate` of
// the function's settings. gate/gate.h judges by it.
//
//   {"require": "better", "margin": 0, "alpha": 0.05, "min_rows": 100, "slices": ["sex"],
//    "min_slice_rows": 30, "max_run": "0s", "max_slowdown": 2, "max_size": "0B"}
//
// Every key may be left out; what stands above are the defaults, but for `slices` (none).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "core/json_reader.h"

namespace mayfly {

enum class GateRequire : std::uint8_t {
  Better,    // than the champion on the same rows, as a test shows
  NotWorse,  // by more than `margin`
  Nothing,   // whatever it is worth
};
std::string_view to_string(GateRequire require);

inline constexpr std::size_t kMaxGateSlices = 20;

struct GatePolicy {
  GateRequire require = GateRequire::Better;
  double margin = 0;             // of the metric
  double alpha = 0.05;           // how likely a wrong yes may be
  std::uint64_t min_rows = 100;  // to compare on; with fewer nothing is decided
  // Columns of categories: no value of one may fare worse, with Holm's correction over all values.
  std::vector<std::string> slices = {};
  std::uint64_t min_slice_rows = 30;  // values with fewer rows are not judged
  Duration max_run{};       // of one run, as publishing measures it; 0: as long as it takes
  double max_slowdown = 2;  // of the champion's run; 0: no matter
  Bytes max_size{};         // of the model; 0: no matter
  bool operator==(const GatePolicy&) const = default;
};

Json to_json_value(const GatePolicy& policy);
// Strict; absent keys keep defaults.
Result<GatePolicy> read_gate_policy(const Json& json);

}  // namespace mayfly
