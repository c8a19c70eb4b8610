// The proof that the graph of a recommender says what its trainer says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "runner/onnx_runtime.h"
#include "runner/train/agreement.h"
#include "runner/train/interactions.h"
#include "runner/train/mf_trainer.h"

namespace mayfly {

struct RecommendParity {
  const OnnxRuntime& runtime;
  const std::string& onnx;
  const std::string& column;  // of the users
  std::size_t top = 10;
  const Interactions& train;
  const HeldOut& held;
  const MfTrainer& trainer;
  std::uint32_t threads = 1;
};

// The lists of 1,000 users, or of all: those of held-out rows first, then others; and of users whom
// nobody knows. It fails where a score differs by more than 1e-5 of its size or of the standard
// deviation of the trainer's scores of training pairs, where an item stands that the trainer finds
// worse by more than that, and where one stands twice, or is what the user has.
Result<ParityReport> check_recommender_parity(const RecommendParity& parts);

}  // namespace mayfly
