#include "training/trial_points.h"

#include <utility>

#include "base/check.h"
#include "search/tpe.h"

namespace mayfly {

TrialPoints::TrialPoints(const TrainPlan& plan) : plan_(plan) {}

void TrialPoints::add(const TrialEnd& end) {
  if (end.work.rung != 0) return;
  const search::Outcome outcome = outcome_of(plan_.rule, end);
  seen_.emplace(end.work.trial, outcome.heading.value_or(outcome.loss));
}

bool TrialPoints::known(std::uint32_t number) const {
  if (plan_.sampler == Sampler::Random || number < kProposalLag) return true;
  const std::uint32_t needed = number - kProposalLag + 1;
  return std::ranges::distance(seen_.begin(), seen_.lower_bound(needed)) == needed;
}

const Json& TrialPoints::of(std::uint32_t number) {
  CHECK(known(number));
  while (params_.size() <= number) {
    const auto next = static_cast<std::uint32_t>(params_.size());
    Json params = plan_.params_of(next);
    const bool given = next == 0 || (next == 1 && plan_.warm_start);
    if (plan_.sampler == Sampler::Tpe && !given) {
      std::vector<search::Observation> seen;
      for (const auto& [trial, loss] : seen_) {
        if (trial + kProposalLag > next) break;
        seen.push_back({.point = params_[trial], .loss = loss});
      }
      params.update(search::propose(plan_.space, plan_.job.seed, next, seen));
    }
    params_.push_back(std::move(params));
  }
  return params_[number];
}

}  // namespace mayfly
