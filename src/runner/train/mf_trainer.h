// Recommendation by matrix factorisation: alternating least squares over what is there and what is
// not (Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", 2008), by
// cmfrec. A pair that is there counts 1 + alpha × its amount, relative to the mean of all; each of
// the others counts 1. A step fits the items, then the users; it depends on the users before it
// alone, and on one thread: so a fit that goes on from a checkpoint ends as one never stopped.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "runner/report/trainer.h"
#include "runner/train/fit.h"
#include "runner/train/interactions.h"

namespace mayfly {

struct Recommended {
  std::uint32_t item = 0;
  double score = 0;
};

class MfTrainer final : public Fit {
 public:
  // `train` outlives me. InvalidArgument (reasons invalid_input, too_large): what cannot be learned
  // from, or not with that much memory.
  static Result<std::unique_ptr<MfTrainer>> create(const TrainerParams& params, std::uint64_t seed,
                                                   Bytes memory, const Interactions& train);

  std::uint32_t rounds() const override { return rounds_; }
  std::uint32_t most_rounds() const override { return params_.integer("iterations"); }
  Status step() override;
  Status keep_rounds(std::uint32_t) override { return {}; }
  Result<std::string> save() override;
  Status restore(std::string_view saved) override;

  // The best that the user has not, by the library itself; of users that nobody knows (kNoPlace),
  // or who have nothing, the most popular.
  Result<std::vector<Recommended>> recommend(std::uint32_t user, std::size_t most) const;
  Result<double> score(std::uint32_t user, std::uint32_t item) const;
  bool is_known(std::uint32_t user) const {
    return user != kNoPlace && train_.starts[user] < train_.starts[user + 1];
  }

  std::size_t factors() const { return factors_; }
  std::span<const double> users() const { return users_; }  // [users, factors]
  std::span<const double> items() const { return items_; }  // [items, factors]

 private:
  MfTrainer(TrainerParams params, std::uint64_t seed, const Interactions& train);

  const TrainerParams params_;
  const std::uint64_t seed_;
  const Interactions& train_;
  const std::size_t factors_;
  double lambda_ = 0;  // in the library's units
  std::uint32_t rounds_ = 0;
  std::vector<double> users_;
  std::vector<double> items_;
  std::vector<float> popularity_;
};

}  // namespace mayfly
