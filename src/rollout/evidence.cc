#include "rollout/evidence.h"

#include <algorithm>
#include <cmath>

namespace mayfly::rollout {
namespace {

void add_likeness(Agreement& agreement, const Likeness& likeness) {
  const double difference = std::abs(likeness.difference);
  const bool finite = std::isfinite(difference);
  ++agreement.compared;
  if (likeness.agrees && finite) ++agreement.agreed;
  if (finite) agreement.max_difference = std::max(agreement.max_difference, difference);
}

// nullptr for a new name beyond the bound.
OutputEvidence* output_named(Evidence& evidence, std::string_view name) {
  const auto found = evidence.outputs.find(name);
  if (found != evidence.outputs.end()) return &found->second;
  if (evidence.outputs.size() >= Evidence::kMaxOutputs) return nullptr;
  return &evidence.outputs.try_emplace(std::string(name)).first->second;
}

}  // namespace

void Evidence::add(const Observation& observation) {
  ++requests;
  if (observation.outcome == Outcome::Failed) {
    ++errors;
    return;
  }
  const auto tier = std::ranges::find(kTiers, observation.tier);
  if (tier != kTiers.end()) {
    const auto index = static_cast<std::size_t>(tier - kTiers.begin());
    run.at(index).add(observation.run);
    if (observation.tier != StartTier::Hot) start.at(index).add(observation.start);
  }
  for (const OutputSummary& summary : observation.outputs) {
    OutputEvidence* output = output_named(*this, summary.name());
    if (output != nullptr) output->add(summary);
  }
  if (observation.likeness) add_likeness(agreement, *observation.likeness);
}

void Evidence::merge(const Evidence& other) {
  requests += other.requests;
  errors += other.errors;
  merge_times(other);
  for (const auto& [name, seen] : other.outputs) {
    OutputEvidence* output = output_named(*this, name);
    if (output != nullptr) output->merge(seen);
  }
  agreement.compared += other.agreement.compared;
  agreement.agreed += other.agreement.agreed;
  agreement.max_difference = std::max(agreement.max_difference, other.agreement.max_difference);
}

void Evidence::merge_times(const Evidence& other) {
  for (std::size_t i = 0; i < kTiers.size(); ++i) {
    run.at(i).merge(other.run.at(i));
    start.at(i).merge(other.start.at(i));
  }
}

std::uint64_t Evidence::timed() const {
  std::uint64_t count = 0;
  for (const LogHistogram& times : run) count += times.count();
  return count;
}

}  // namespace mayfly::rollout
