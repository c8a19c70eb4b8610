#include "serving/rollout_evidence.h"

#include <algorithm>
#include <array>
#include <span>

#include "core/reason.h"
#include "serving/output_summary.h"

namespace mayfly {
namespace {

// What is the version's own fault; the rest would have happened to any version. A request that
// waited until its deadline met no version.
bool is_own_fault(const Outcome& outcome) {
  constexpr std::array kOwn = {reason::kInstanceCrashed,  reason::kOutOfMemory,
                               reason::kDeadlineExceeded, reason::kStartFailed,
                               reason::kModelError,       reason::kBadReply,
                               reason::kFunctionError};
  const std::string_view reason = outcome.reply.error().reason;
  if (reason == reason::kDeadlineExceeded && outcome.tier == StartTier::None) return false;
  return std::ranges::find(kOwn, reason) != kOwn.end();
}

}  // namespace

void add_outcome(rollout::Evidence& evidence, const Serving& serving, const Outcome& outcome,
                 rollout::Observation observation) {
  if (!outcome.reply && !is_own_fault(outcome)) return;
  std::span<const OutputView> outputs;
  if (outcome.reply) outputs = outcome.reply->outputs;
  const OutputSummaries summaries(serving.signature(), outputs);
  observation.outcome = outcome.reply ? rollout::Outcome::Answered : rollout::Outcome::Failed;
  observation.outputs = summaries.all();
  evidence.add(observation);
}

rollout::Likeness likeness_of(const Difference& difference) {
  return {.agrees = difference.labels > 0 ? difference.labels == difference.labels_agreed
                                          : difference.agrees,
          .difference = difference.max_difference};
}

}  // namespace mayfly
