// The checks behind judge.h. Internal to this folder.
#pragma once

#include <vector>

#include "rollout/judge.h"

namespace mayfly::rollout {

struct Bench {
  const RolloutPlan& plan;
  const RolloutSnapshot& snapshot;
  Step step;
  double alpha;  // of one sequential test

  // The champion gets no more requests: its numbers are those of the step before, for good.
  bool last() const { return step == Step{StepKind::Traffic, 100}; }
  bool enough(std::uint64_t champion, std::uint64_t challenger) const {
    return champion >= plan.min_samples && challenger >= plan.min_samples;
  }
};

using Findings = std::vector<Finding>;

void check_standing(const Bench& bench, Findings& findings);  // paused, time, samples
void check_errors(const Bench& bench, Findings& findings);
void check_times(const Bench& bench, Findings& findings);
void check_outputs(const Bench& bench, Findings& findings);  // outputs.h
void check_agreement(const Bench& bench, Findings& findings);

}  // namespace mayfly::rollout
