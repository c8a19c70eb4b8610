#include "gate/gate.h"

#include <random>

#include <doctest/doctest.h>

using namespace mayfly;
using namespace mayfly::gate;
using namespace std::chrono_literals;
using validation::ClassPredictions;
using validation::Metric;

namespace {

// Of each row whether champion and challenger are right.
struct Right {
  int both, champion, challenger, none;
};

ClassPredictions labelled(const std::vector<bool>& right) {
  ClassPredictions some{.classes = 2, .truth = {}, .probabilities = {}};
  for (std::size_t row = 0; row < right.size(); ++row) {
    const auto truth = static_cast<std::uint32_t>(row % 2);
    const bool says_one = (truth == 1) == right[row];
    some.truth.push_back(truth);
    some.probabilities.push_back(says_one ? 0.2F : 0.8F);
    some.probabilities.push_back(says_one ? 0.8F : 0.2F);
  }
  return some;
}

// Each is a slice: `sex` = 0, 1, …
Match match_of_slices(const std::vector<Right>& slices) {
  std::vector<bool> champion;
  std::vector<bool> challenger;
  const auto add = [&](int count, bool before, bool after) {
    champion.insert(champion.end(), static_cast<std::size_t>(count), before);
    challenger.insert(challenger.end(), static_cast<std::size_t>(count), after);
  };
  Match match;
  for (const Right& rows : slices) {
    SliceMatch slice{.column = "sex", .value = std::to_string(match.slices.size()), .rows = {}};
    const std::size_t first = champion.size();
    add(rows.both, true, true);
    add(rows.champion, true, false);
    add(rows.challenger, false, true);
    add(rows.none, false, false);
    for (std::size_t row = first; row < champion.size(); ++row)
      slice.rows.push_back(static_cast<std::uint32_t>(row));
    match.slices.push_back(std::move(slice));
  }
  match.champion = labelled(champion);
  match.challenger = labelled(challenger);
  return match;
}

Match match_of(Right rows) {
  Match match = match_of_slices({rows});
  match.slices.clear();
  return match;
}

const Check& check_named(const Verdict& verdict, std::string_view name) {
  const auto found = std::ranges::find(verdict.checks, name, &Check::name);
  REQUIRE(found != verdict.checks.end());
  return *found;
}

}  // namespace

TEST_CASE("a challenger that is shown to be better passes, one that only looks better does not") {
  const Verdict better = judge({}, match_of({800, 20, 80, 100}));
  CHECK(better.passed);
  CHECK(check_named(better, "improvement").numbers["test"] == "mcnemar");
  CHECK(check_named(better, "improvement").numbers["p_value"].get<double>() < 1e-6);
  const Verdict maybe = judge({}, match_of({880, 10, 15, 95}));
  CHECK_FALSE(maybe.passed);
  CHECK(maybe.why.find("does not show that it is better") != std::string::npos);
  CHECK(maybe.why.find("rows would") != std::string::npos);
  CHECK_FALSE(judge({}, match_of({900, 0, 0, 100})).passed);
  CHECK_FALSE(judge({}, match_of({800, 80, 20, 100})).passed);
}

TEST_CASE("not worse is shown within a margin, and nothing is asked where nothing is required") {
  GatePolicy policy{.require = GateRequire::NotWorse, .margin = 0.02};
  CHECK(judge(policy, match_of({900, 5, 5, 90})).passed);
  policy.margin = 0.001;
  CHECK_FALSE(judge(policy, match_of({900, 5, 5, 90})).passed);
  CHECK(judge({.require = GateRequire::Nothing}, match_of({800, 80, 20, 100})).passed);
}

TEST_CASE("too few rows promote nobody, however much better it looks") {
  const Verdict few = judge({}, match_of({0, 0, 60, 39}));
  CHECK_FALSE(few.passed);
  CHECK(few.why.find("too few rows to compare on: 99") != std::string::npos);
  CHECK(std::ranges::find(few.checks, "improvement", &Check::name) == few.checks.end());
  CHECK(judge({}, match_of({0, 0, 60, 40})).passed);
}

TEST_CASE("metrics without a test of their own are compared by resampling the same rows") {
  std::mt19937_64 random(7);
  std::normal_distribution<double> noise;
  validation::ValuePredictions champion;
  validation::ValuePredictions challenger;
  for (int row = 0; row < 400; ++row) {
    const double truth = noise(random);
    champion.truth.push_back(truth);
    champion.value.push_back(truth + 0.5 * noise(random));
    challenger.value.push_back(truth + 0.3 * noise(random));
  }
  challenger.truth = champion.truth;
  Match match{.metric = Metric::Rmse, .champion = champion, .challenger = challenger};
  CHECK(judge({}, match).passed);
  std::swap(match.champion, match.challenger);
  CHECK_FALSE(judge({}, match).passed);
  champion.truth[0] += 1;
  match.champion = champion;
  const Verdict other = judge({}, match);
  CHECK_FALSE(other.passed);
  CHECK(other.why.find("not asked about the same rows") != std::string::npos);
}

TEST_CASE("harm to a slice is found with Holm's correction, and one slice is enough for a no") {
  const GatePolicy policy{.slices = {"sex"}};
  const Verdict harmed = judge(policy, match_of_slices({{800, 0, 90, 110}, {440, 20, 5, 35}}));
  CHECK_FALSE(harmed.passed);
  CHECK(harmed.why.find("it fares worse where sex = 1 (0.89, was 0.92, 500 rows)") !=
        std::string::npos);
  CHECK(harmed.why.find("sex = 0") == std::string::npos);
  // Alone it would be harm at 5 %; of twenty, one such is chance.
  const Right doubtful{440, 16, 5, 39};
  std::vector<Right> slices{{800, 0, 90, 110}, doubtful};
  CHECK_FALSE(judge(policy, match_of_slices(slices)).passed);
  slices.insert(slices.end(), 19, Right{100, 0, 0, 10});
  CHECK(judge(policy, match_of_slices(slices)).passed);
  const Verdict small = judge(policy, match_of_slices({{800, 0, 90, 110}, {0, 29, 0, 0}}));
  CHECK(small.passed);
  CHECK(check_named(small, "slices").numbers["not_judged"] == 1);
}

TEST_CASE("slices are paired: where two models err alike, small harm is seen") {
  // Each by itself is right in 92.4 % and 90 % of 500 rows, give or take 2.3 %.
  const Verdict harmed =
      judge({.slices = {"sex"}}, match_of_slices({{800, 0, 90, 110}, {450, 12, 0, 38}}));
  const Json slices = check_named(harmed, "slices").numbers["slices"];
  CHECK(slices[0]["value"] == "1");
  CHECK(slices[0]["harmed"] == true);
  CHECK(slices[0]["p_value"].get<double>() == doctest::Approx(1.0 / 4096));
  CHECK(slices[0]["improvement"]["value"].get<double>() == doctest::Approx(-0.024));
  CHECK(slices[0]["improvement"]["high"].get<double>() < 0);
  // Likewise of metrics that a bootstrap compares.
  std::mt19937_64 random(9);
  std::normal_distribution<double> noise;
  validation::ValuePredictions champion;
  validation::ValuePredictions challenger;
  SliceMatch slice{.column = "sex", .value = "m", .rows = {}};
  for (std::uint32_t row = 0; row < 1000; ++row) {
    const double truth = noise(random);
    const double miss = noise(random);
    champion.truth.push_back(truth);
    champion.value.push_back(truth + miss);
    challenger.value.push_back(truth + (row < 200 ? 1.05 : 0.5) * miss);
    if (row < 200) slice.rows.push_back(row);
  }
  challenger.truth = champion.truth;
  const Match values{
      .metric = Metric::Rmse, .champion = champion, .challenger = challenger, .slices = {slice}};
  const Verdict worse = judge({.slices = {"sex"}}, values);
  CHECK(check_named(worse, "improvement").passed);
  CHECK_FALSE(check_named(worse, "slices").passed);
}

TEST_CASE("a model that is too slow or too large does not pass, whatever it is worth") {
  Match match = match_of({800, 20, 80, 100});
  match.champion_costs = {.run = 100us, .size = kib(10)};
  match.challenger_costs = {.run = 190us, .size = kib(20)};
  CHECK(judge({}, match).passed);
  match.challenger_costs.run = 201us;
  CHECK_FALSE(judge({}, match).passed);
  CHECK(judge({.max_slowdown = 0}, match).passed);
  CHECK_FALSE(judge({.max_run = 200us, .max_slowdown = 0}, match).passed);
  CHECK_FALSE(judge({.max_slowdown = 0, .max_size = kib(19)}, match).passed);
  match.challenger_costs.run = {};
  CHECK(judge({}, match).passed);
  const Verdict unknown = judge({.max_run = 1s}, match);
  CHECK_FALSE(unknown.passed);
  CHECK(unknown.why == "publishing measured no run");
}

TEST_CASE("a first version beats every baseline with its pessimistic end, or gets nothing") {
  First first{.metric = "auc",
              .score = validation::Interval{0.8, 0.75, 0.84},
              .rows = 200,
              .baselines = {{"majority", 0.5}}};
  CHECK(judge_first({}, first).passed);
  first.models["linear"] = 0.84;
  CHECK(judge_first({}, first).passed);
  first.models["linear"] = 0.841;
  CHECK(judge_first({}, first).why.find("shown to be better") != std::string::npos);
  first.models.clear();
  first.baselines["last_value"] = 0.76;
  const Verdict lost = judge_first({}, first);
  CHECK_FALSE(lost.passed);
  CHECK(lost.why.find("last_value has 0.76, which is not beaten") != std::string::npos);
  CHECK(judge_first({.require = GateRequire::Nothing}, first).passed);
  First error{.metric = "rmse",
              .higher_is_better = false,
              .score = validation::Interval{1, 0.9, 1.2},
              .rows = 50,
              .baselines = {{"mean", 1.3}}};
  CHECK(judge_first({}, error).passed);
  error.baselines["mean"] = 1.1;
  CHECK_FALSE(judge_first({}, error).passed);
  error.score.reset();
  CHECK_FALSE(judge_first({}, error).passed);
}

TEST_CASE("rows are fair to both of one dataset, one rule and one target, or later than both") {
  const Origin one{.dataset = "credit",
                   .snapshot = 1,
                   .split = R"({"by":"content"})",
                   .target = "class",
                   .task = "binary"};
  Origin two = one;
  two.snapshot = 4;
  CHECK(comparable(one, two).has_value());
  two.dataset = "debit";
  CHECK(comparable(one, two).error().message.find("cannot be compared") == 0);
  two = one;
  two.split = R"({"by":"id"})";
  CHECK_FALSE(comparable(one, two).has_value());
  two = one;
  two.split_basis = "other columns";
  CHECK(comparable(one, two).error().message.contains("were dealt anew"));
  two = one;
  two.target = "other";
  CHECK_FALSE(comparable(one, two).has_value());
  Origin early = one;
  early.by_time = true;
  CHECK_FALSE(comparable(one, early).has_value());
  early.test_from = 100;
  Origin late = early;
  late.test_from = 200;
  CHECK_FALSE(comparable(early, late)->has_value());
  CHECK(comparable(late, early).value() == 200);
}

TEST_CASE("a verdict says all of it") {
  const Json json = to_json_value(judge({}, match_of({800, 20, 80, 100})));
  CHECK(json["passed"] == true);
  CHECK(json["checks"].size() == 4);
  CHECK(json["checks"][0]["check"] == "improvement");
  CHECK(json["checks"][0]["improvement"]["value"].get<double>() == doctest::Approx(0.06));
  CHECK(to_json_value(refused("score", "why"))["why"] == "why");
}
