// Asynchronous successive halving (Li et al., MLSys 2020, "A System for Massively Parallel
// Hyperparameter Tuning"): many trials with a small resource (boosting rounds, epochs), of which
// the best share is given more, without waiting for a whole rung to be there.
//
// Promotions are decided in order, not by who ends first: a rung's trials stand in a line (the
// lowest by number, a higher one in the order of promotion), and a result counts once all before it
// in the line have ended. With m of them counted a rung has promoted floor(m / eta), the best that
// are there. So the same results give the same promotions whatever ran beside what, and the log of
// a search can be replayed.
//
// Trial 0 is the control: it goes to the end whatever its results.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"

namespace mayfly::search {

struct HalvingPlan {
  std::uint32_t trials = 27;
  std::uint32_t eta = 3;
  // Of each rung, cumulative, rising: for boosting a ninth, a third and all of the rounds, because
  // after very few rounds a high learning rate always looks best.
  std::vector<std::uint32_t> resources = {9, 27, 81};
};

// InvalidArgument: no trials, eta below 2, resources that do not rise.
Status check(const HalvingPlan& plan);

struct Work {
  std::uint32_t trial = 0;
  std::uint32_t rung = 0;
  bool operator==(const Work&) const = default;
};

struct Outcome {
  Work work;
  double loss = 0;  // less is better; NaN: the trial failed and is never promoted
  // Where the loss is heading (outlook() below): what promotions go by; nullopt: the loss. A low
  // learning rate looks bad early and ends well.
  std::optional<double> heading = {};
};

// The loss after `most` rounds, as a learning curve of `rounds` lets one expect: `curve` has the
// lowest loss within half, three quarters and all of them. What is left to gain shrinks by the same
// factor from quarter to quarter (Aitken's delta-squared process); a curve that gains nothing, or
// ever more, heads no further than that.
double outlook(const std::array<double, 3>& curve, std::uint32_t rounds, std::uint32_t most);

// One search. Not safe for use by several threads.
class Halving {
 public:
  explicit Halving(HalvingPlan plan);  // that `check` let through

  // What may begin now: promotions of high rungs first, then new trials. nullopt: nothing until a
  // result is reported, or nothing any more.
  std::optional<Work> next();
  // Of work that `next` gave, once for each; in any order. After a restart: `replay`.
  void report(const Outcome& outcome);
  // Everything that was given has been reported and nothing is left to give.
  bool finished() const;

  // The best at the highest rung that anything has reached; the earlier of equals. nullopt while
  // every trial has failed or none has ended.
  std::optional<Outcome> best() const;
  const HalvingPlan& plan() const { return plan_; }

  // A search as it was after these outcomes: what had begun beside them is given again.
  static Halving replay(HalvingPlan plan, const std::vector<Outcome>& outcomes);

 private:
  enum class State : std::uint8_t { Waiting, Given, Ended };
  struct Entry {
    std::uint32_t trial = 0;
    State state = State::Waiting;
    double loss = 0;
    double heading = 0;
    bool promoted = false;
  };
  struct Rung {
    std::vector<Entry> line;
    std::size_t counted = 0;
    std::size_t promoted = 0;  // the control apart
  };

  void settle();
  bool settle(std::size_t rung);
  void promote(std::size_t rung, Entry& entry);

  HalvingPlan plan_;
  std::vector<Rung> rungs_;
};

}  // namespace mayfly::search
