// The configuration of each trial of a search. By random draws it follows from the plan alone; by
// `tpe` from the plan and from how earlier trials ended, always the same ones: all up to
// kProposalLag before it. So it is the same whatever ran beside what, and can be replayed from the
// log.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "core/json_reader.h"
#include "training/search_log.h"
#include "training/train_plan.h"

namespace mayfly {

// As many trials as may be at work and not yet known to the next one.
inline constexpr std::uint32_t kProposalLag = 8;

// Not safe for use by several threads.
class TrialPoints {
 public:
  explicit TrialPoints(const TrainPlan& plan);  // which outlives me

  void add(const TrialEnd& end);
  // Whether all that it hangs on has ended.
  bool known(std::uint32_t number) const;
  // All parameters of a trial that is known. May take a millisecond for each trial before it that
  // nobody has asked for.
  const Json& of(std::uint32_t number);

 private:
  const TrainPlan& plan_;
  std::vector<Json> params_;              // of trials 0, 1, 2 …
  std::map<std::uint32_t, double> seen_;  // losses of those that have ended the first rung
};

}  // namespace mayfly
