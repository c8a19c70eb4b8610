// What a training knows of its trials, and what follows from that: values and pure functions, so
// that a search goes on from its log after a kill, and can be replayed by anybody.
//
// Decisions are made in an order of their own: that in which one worker alone would have had the
// results. A search with a budget in trials is thereby a function of seed, snapshot and results,
// whatever ran beside what. Where time or cost bound it, it ends with what there was when they were
// used up, and the log says so.
//
// The log is JSON lines: the plan, the ends of trials as they came, why it stopped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "search/halving.h"
#include "training/train_plan.h"
#include "validation/interval.h"

namespace mayfly {

struct TrialEnd {
  search::Work work;
  std::string job;
  // On the validation rows, each end with probability 1 - kAlphaOfTrials; the estimate is NaN of a
  // trial that failed, the ends are of what has no bounds.
  validation::Interval said;
  // Where the metric is heading (search::outlook); nullopt: it ends here, or cannot be told.
  std::optional<double> heading = {};
  std::string reason = {}, error = {};  // of one that failed
};
inline constexpr double kAlphaOfTrials = 0.025;
inline constexpr double kAlphaOfGoals = 0.05;

// The checkpoint of a training.
struct SearchLog {
  std::vector<TrialEnd> ends;  // as they came
  Duration elapsed{};          // at work, when it was written
  std::string stopped = {};    // "time", "cost": the budget that was used up
  std::size_t stopped_after = 0;
  std::optional<TrainCode> code = {};  // where it was published after the plan was made
};
std::string to_json(const SearchLog& log);
Result<SearchLog> parse_search_log(std::string_view json);
std::string decisions_of(const TrainPlan& plan, const SearchLog& log);
struct Decisions {
  TrainPlan plan;
  SearchLog log;
};
Result<Decisions> parse_decisions(std::string_view lines);

// Less is better; NaN: it failed.
double loss_of(const MetricRule& rule, const TrialEnd& end);
search::Outcome outcome_of(const MetricRule& rule, const TrialEnd& end);

enum class SearchEnd : std::uint8_t {
  NotYet,
  Goal,    // the best one's bound, corrected for all that were looked at, reaches it
  Trials,  // all are tried
  Budget,
};
struct Verdict {
  SearchEnd end = SearchEnd::NotYet;
  std::optional<TrialEnd> best = {};  // none while all have failed
  std::size_t candidates = 0;         // models among which it is the best
  std::optional<double> bound = {};   // of the best, corrected for them
};
Verdict judge(const TrainPlan& plan, const SearchLog& log);

// Ids of the parts of a training follow from its own, so that none is ever made twice.
std::string part_id(std::string_view training, std::string_view part);
std::string part_of(const search::Work& work);  // "trial 3, rung 1"

}  // namespace mayfly
