#include "gate/gate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "core/reason.h"
#include "core/units.h"

namespace mayfly::gate {
namespace {

using validation::Interval;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json interval_json(const Interval& interval) {
  return {{"value", number(interval.estimate)},
          {"low", number(interval.low)},
          {"high", number(interval.high)}};
}

Verdict verdict_of(std::vector<Check> checks) {
  Verdict verdict{.passed = true, .why = {}, .checks = std::move(checks)};
  for (const Check& check : verdict.checks) {
    if (check.passed) continue;
    verdict.passed = false;
    verdict.why += verdict.why.empty() ? check.text : "; " + check.text;
  }
  if (verdict.passed) verdict.why = verdict.checks.empty() ? "" : verdict.checks.front().text;
  return verdict;
}

Check size_check(const GatePolicy& policy, const Costs& costs) {
  const bool passed = policy.max_size.count == 0 || costs.size.count <= policy.max_size.count;
  std::string text = fmt::format("the model has {}", to_string(costs.size));
  if (policy.max_size.count > 0)
    text += fmt::format(", {} than max_size, {}", passed ? "no more" : "more",
                        to_string(policy.max_size));
  return {.name = "size",
          .passed = passed,
          .text = std::move(text),
          .numbers = {{"bytes", costs.size.count}, {"limit", policy.max_size.count}}};
}

double microseconds_of(Duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

// A budget in runs that nobody measured is not kept to.
Check run_check(const GatePolicy& policy, const Costs& costs, const Costs* champion) {
  const bool known = costs.run > Duration::zero();
  const bool compared = champion != nullptr && champion->run > Duration::zero() && known;
  const double slowdown =
      compared ? microseconds_of(costs.run) / microseconds_of(champion->run) : 0;
  Check check{.name = "latency", .passed = true, .text = {}, .numbers = Json::object()};
  if (known) {
    check.text = fmt::format("a run takes {:.4g} us", microseconds_of(costs.run));
    check.numbers["run_us"] = microseconds_of(costs.run);
  } else {
    check.text = "publishing measured no run";
    check.passed = policy.max_run == Duration::zero();
  }
  if (policy.max_run > Duration::zero() && known) {
    check.passed = costs.run <= policy.max_run;
    check.text += fmt::format(", {} than max_run, {}", check.passed ? "no longer" : "longer",
                              to_string(policy.max_run));
  }
  if (!compared) return check;
  check.numbers["champion_run_us"] = microseconds_of(champion->run);
  check.text += fmt::format(", {:.3g} times the champion's", slowdown);
  if (policy.max_slowdown > 0 && slowdown > policy.max_slowdown) {
    check.passed = false;
    check.text += fmt::format(", more than max_slowdown, {}", policy.max_slowdown);
  }
  return check;
}

Check rows_check(const GatePolicy& policy, std::uint64_t rows) {
  const bool enough = rows >= policy.min_rows;
  return {.name = "rows",
          .passed = enough,
          .text = enough ? fmt::format("compared on {} rows that neither learned from", rows)
                         : fmt::format("too few rows to compare on: {} that neither learned from, "
                                       "where min_rows is {}",
                                       rows, policy.min_rows),
          .numbers = {{"rows", rows}, {"min_rows", policy.min_rows}}};
}

// How many rows would show an improvement of the size that was seen, if it is there.
std::optional<std::uint64_t> rows_to_show(const Interval& improvement, std::uint64_t rows) {
  const double half = improvement.estimate - improvement.low;
  if (!(improvement.estimate > 0) || !(half > 0)) return std::nullopt;
  const double times = half / improvement.estimate;
  const double wanted = std::ceil(static_cast<double>(rows) * times * times);
  if (!(wanted > static_cast<double>(rows)) || wanted > 1e12) return std::nullopt;
  return static_cast<std::uint64_t>(wanted);
}

Check improvement_check(const GatePolicy& policy, const Match& match,
                        const validation::Comparison& found) {
  const Interval& by = found.improvement;
  const bool labels = match.metric == validation::Metric::Accuracy;
  const bool better = labels ? found.p_value <= policy.alpha : by.low > 0;
  const bool passed = policy.require == GateRequire::Nothing ||
                      (policy.require == GateRequire::Better ? better : by.low > -policy.margin);
  const std::string_view name = validation::info(match.metric).name;
  std::string text = fmt::format(
      "{} is {} by {:.4g} (improvement with one-sided {:.3g} % bounds: {:.4g} to {:.4g})", name,
      by.estimate < 0 ? "worse" : "better", std::abs(by.estimate), 100 * (1 - policy.alpha), by.low,
      by.high);
  if (policy.require == GateRequire::NotWorse)
    text += fmt::format(", which is {}shown to be no worse than by {}", passed ? "" : "not ",
                        policy.margin);
  if (policy.require == GateRequire::Better && !passed) {
    text += ", which does not show that it is better";
    if (const auto rows = rows_to_show(by, rows_of(match.champion)))
      text += fmt::format("; if it is, about {} rows would", *rows);
  }
  return {.name = "improvement",
          .passed = passed,
          .text = std::move(text),
          .numbers = {{"metric", name},
                      {"test", labels ? "mcnemar" : "paired bootstrap"},
                      {"improvement", interval_json(by)},
                      {"p_value", number(found.p_value)},
                      {"alpha", policy.alpha},
                      {"require", to_string(policy.require)},
                      {"champion", number(validation::score(match.metric, match.champion))},
                      {"challenger", number(validation::score(match.metric, match.challenger))}}};
}

validation::Predictions rows_of_slice(const validation::Predictions& all,
                                      const std::vector<std::uint32_t>& rows) {
  if (const auto* values = std::get_if<validation::ValuePredictions>(&all)) {
    validation::ValuePredictions some;
    for (const std::uint32_t row : rows) {
      some.truth.push_back(values->truth.at(row));
      some.value.push_back(values->value.at(row));
    }
    return some;
  }
  const auto& classes = std::get<validation::ClassPredictions>(all);
  validation::ClassPredictions some{.classes = classes.classes, .truth = {}, .probabilities = {}};
  for (const std::uint32_t row : rows) {
    some.truth.push_back(classes.truth.at(row));
    const auto said = classes.row(row);
    some.probabilities.insert(some.probabilities.end(), said.begin(), said.end());
  }
  return some;
}

struct JudgedSlice {
  const SliceMatch* slice = nullptr;
  double champion = 0, challenger = 0;
  Interval improvement;
  double p = 1;  // of harm like that, or more, between equals
};

// nullopt: too few rows, or the metric means nothing on them.
std::optional<JudgedSlice> judge_slice(const GatePolicy& policy, const Match& match,
                                       const SliceMatch& slice) {
  if (slice.rows.empty() || slice.rows.size() < policy.min_slice_rows) return std::nullopt;
  const validation::Predictions before = rows_of_slice(match.champion, slice.rows);
  const validation::Predictions after = rows_of_slice(match.challenger, slice.rows);
  // The other way around: what is looked for is that the champion is better.
  const auto found =
      validation::compare_one_of_many(match.metric, after, before, policy.alpha, match.seed);
  if (!found || !std::isfinite(found->p_value)) return std::nullopt;
  const Interval& harm = found->improvement;
  return JudgedSlice{.slice = &slice,
                     .champion = validation::score(match.metric, before),
                     .challenger = validation::score(match.metric, after),
                     .improvement = {-harm.estimate, -harm.high, -harm.low},
                     .p = found->p_value};
}

Check slice_check(const GatePolicy& policy, const Match& match) {
  std::vector<JudgedSlice> judged;
  for (const SliceMatch& slice : match.slices)
    if (auto one = judge_slice(policy, match, slice)) judged.push_back(*one);
  std::ranges::sort(judged, {}, [](const JudgedSlice& one) {
    return std::tie(one.p, one.slice->column, one.slice->value);
  });
  Check check{.name = "slices", .passed = true, .text = {}, .numbers = Json::object()};
  Json listed = Json::array();
  bool open = true;  // Holm: the first that is not shown ends it
  std::string harmed;
  for (std::size_t i = 0; i < judged.size(); ++i) {
    const JudgedSlice& one = judged[i];
    open = open && one.p <= policy.alpha / static_cast<double>(judged.size() - i);
    if (open) {
      harmed += fmt::format("{}{} = {} ({:.4g}, was {:.4g}, {} rows)", harmed.empty() ? "" : ", ",
                            one.slice->column, one.slice->value, one.challenger, one.champion,
                            one.slice->rows.size());
    }
    listed.push_back({{"column", one.slice->column},
                      {"value", one.slice->value},
                      {"rows", one.slice->rows.size()},
                      {"champion", number(one.champion)},
                      {"challenger", number(one.challenger)},
                      {"improvement", interval_json(one.improvement)},
                      {"p_value", one.p},
                      {"harmed", open}});
  }
  check.passed = harmed.empty();
  check.numbers["slices"] = std::move(listed);
  check.numbers["not_judged"] = match.slices.size() - judged.size();
  check.text = check.passed ? fmt::format("no harm shown in {} slices", judged.size())
                            : "it fares worse where " + harmed;
  return check;
}

}  // namespace

Json to_json_value(const Verdict& verdict) {
  Json checks = Json::array();
  for (const Check& check : verdict.checks) {
    Json one{{"check", check.name}, {"passed", check.passed}, {"text", check.text}};
    one.update(check.numbers);
    checks.push_back(std::move(one));
  }
  return {{"passed", verdict.passed}, {"why", verdict.why}, {"checks", std::move(checks)}};
}

Verdict refused(std::string_view check, std::string text) {
  return verdict_of({{.name = std::string(check), .passed = false, .text = std::move(text)}});
}

Verdict judge(const GatePolicy& policy, const Match& match) {
  const std::uint64_t rows = rows_of(match.challenger);
  std::vector<Check> checks;
  if (rows >= policy.min_rows) {
    const auto found = validation::compare(match.metric, match.champion, match.challenger,
                                           policy.alpha, match.seed);
    checks.push_back(found ? improvement_check(policy, match, *found)
                           : Check{.name = "improvement",
                                   .passed = false,
                                   .text = "cannot be compared: " + found.error().message});
  }
  checks.push_back(rows_check(policy, rows));
  if (!policy.slices.empty()) checks.push_back(slice_check(policy, match));
  checks.push_back(run_check(policy, match.challenger_costs, &match.champion_costs));
  checks.push_back(size_check(policy, match.challenger_costs));
  return verdict_of(std::move(checks));
}

namespace {

// What knows nothing must be beaten surely.
void hold_against_naive(const First& first, Check& beats) {
  const double bound = first.higher_is_better ? first.score->low : first.score->high;
  for (const auto& [name, value] : first.baselines) {
    const bool beaten = first.higher_is_better ? bound > value : bound < value;
    beats.text +=
        fmt::format("; {} has {:.4g}{}", name, value, beaten ? "" : ", which is not beaten");
    beats.passed = beats.passed && beaten;
    beats.numbers["baselines"][name] = {{"value", number(value)}, {"beaten", beaten}};
  }
}

// What has learned must not be shown to be better.
void hold_against_models(const First& first, Check& beats) {
  const double best = first.higher_is_better ? first.score->high : first.score->low;
  for (const auto& [name, value] : first.models) {
    const bool within = first.higher_is_better ? value <= best : value >= best;
    beats.text += fmt::format("; the {} model has {:.4g}{}", name, value,
                              within ? "" : ", which is shown to be better");
    beats.passed = beats.passed && within;
    beats.numbers["baselines"][name] = {{"value", number(value)}, {"better", !within}};
  }
}

Check baselines_check(const GatePolicy& policy, const First& first) {
  Check beats{.name = "baselines", .passed = true, .text = {}, .numbers = Json::object()};
  beats.numbers["metric"] = first.metric;
  if (!first.score) {
    beats.passed = false;
    beats.text =
        "it was not scored on test rows, or on too few, so that nothing says what it is worth";
  } else if (first.baselines.empty() && first.models.empty()) {
    beats.text = fmt::format("there is no baseline of {} to beat", first.metric);
  } else {
    beats.text =
        fmt::format("{} is {:.4g}, at {} {:.4g}, on {} test rows", first.metric,
                    first.score->estimate, first.higher_is_better ? "least" : "most",
                    first.higher_is_better ? first.score->low : first.score->high, first.rows);
    hold_against_naive(first, beats);
    hold_against_models(first, beats);
    beats.numbers["score"] = interval_json(*first.score);
  }
  if (policy.require == GateRequire::Nothing) beats.passed = true;
  return beats;
}

}  // namespace

Verdict judge_first(const GatePolicy& policy, const First& first) {
  std::vector<Check> checks;
  checks.push_back(baselines_check(policy, first));
  checks.push_back(run_check(policy, first.costs, nullptr));
  checks.push_back(size_check(policy, first.costs));
  return verdict_of(std::move(checks));
}

Result<std::optional<std::int64_t>> comparable(const Origin& champion, const Origin& challenger) {
  const auto no = [](const std::string& why) {
    return refuse(reason::kConflict, "cannot be compared with the champion: " + why);
  };
  if (champion.dataset != challenger.dataset)
    return no(fmt::format("it was trained on {}, not on {}", champion.dataset, challenger.dataset));
  if (champion.task != challenger.task || champion.target != challenger.target)
    return no(fmt::format("it learned {} of '{}', not {} of '{}'", champion.task, champion.target,
                          challenger.task, challenger.target));
  if (champion.by_time != challenger.by_time)
    return no("one split its rows by time, the other did not");
  if (!challenger.by_time) {
    if (champion.split == challenger.split) {
      if (champion.split_basis == challenger.split_basis) return std::nullopt;
      return no(
          "its snapshot has other columns, and rows that are split by their content were dealt "
          "anew; a dataset with an id (--id) keeps rows where they are");
    }
    return no(
        fmt::format("its rows were split by {}, not by {}", champion.split, challenger.split));
  }
  if (!champion.test_from || !challenger.test_from)
    return no("where the test period begins is not known");
  const std::int64_t from = std::max(*champion.test_from, *challenger.test_from);
  if (from == *challenger.test_from) return std::nullopt;
  return from;
}

}  // namespace mayfly::gate
