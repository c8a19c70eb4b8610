// What an outcome is to a rollout: evidence of its version, or none.
#pragma once

#include "dispatch/outcome.h"
#include "rollout/evidence.h"
#include "serving/comparison.h"
#include "serving/serving.h"

namespace mayfly {

// Only own faults of the version count as failures; what failed otherwise is no evidence. The
// observation has its times and its likeness; outcome and outputs are set here.
void add_outcome(rollout::Evidence& evidence, const Serving& serving, const Outcome& outcome,
                 rollout::Observation observation);

rollout::Likeness likeness_of(const Difference& difference);

}  // namespace mayfly
