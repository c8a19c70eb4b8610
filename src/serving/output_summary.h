// Numeric outputs of a reply, summed up for a rollout's evidence: texts are left out, and of a
// large tensor the first values stand for all. Where the last of two or more dimensions is short,
// each of its columns is a quantity of its own.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "rollout/outputs.h"
#include "sandbox/channel.h"

namespace mayfly {

class OutputSummaries {
 public:
  static constexpr std::size_t kValues = 1024;  // of each output
  static constexpr std::int64_t kColumns = 16;

  OutputSummaries(const Signature& signature, std::span<const OutputView> outputs);
  std::span<const rollout::OutputSummary> all() const { return summaries_; }

 private:
  std::deque<std::string> names_;  // what the summaries look into
  std::vector<rollout::OutputSummary> summaries_;
};

}  // namespace mayfly
