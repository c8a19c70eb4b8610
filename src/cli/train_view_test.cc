#include "cli/train_view.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("a learning curve is drawn from its first value to its last") {
  const std::string curve = curve_text({{1, 0.5}, {2, 0.7}, {3, 0.8}}, {.width = 9, .height = 3});
  CHECK(curve ==
        "       0.8 │        •\n"
        "           │    •    \n"
        "       0.5 │•        \n"
        "           └1  3\n");
  CHECK(curve_text({}).empty());
  CHECK(curve_text({{1, 1}}).empty());
  CHECK(curve_text({{1, 1}, {2, std::nan("")}}).empty());
  CHECK_FALSE(curve_text({{1, 1}, {2, 1}}).empty());
}

TEST_CASE("an end has its exit code") {
  const auto job = [](const char* outcome) { return CliJson{{"result", {{"outcome", outcome}}}}; };
  CHECK(exit_of_training(job("goal_reached")) == 0);
  CHECK(exit_of_training(job("finished")) == 0);
  CHECK(exit_of_training(job("goal_not_reached")) == 9);
  CHECK(exit_of_training(job("data_too_small")) == 10);
}

TEST_CASE("what a training is to do, and how it ended, whatever is missing") {
  CHECK(plan_text(CliJson::object()).find("task") != std::string::npos);
  CHECK(training_text(CliJson::object()).find("not registered") != std::string::npos);
  const auto job = CliJson::parse(R"({"id": "7", "training": {"metric": "auc", "why": "so it is",
      "data": {"dataset": "credit", "snapshot": 3}, "rows": {"train": 700, "valid": 100, "test": 200},
      "train": {"task": "binary", "trainer": "xgboost", "target": "class", "seed": 5},
      "goal": {"metric": "auc", "at": 0.7, "direction": ">="}, "left_out": [{"column": "id", "why": "old"}],
      "halving": {"trials": 27, "rungs": [55, 166, 500]}, "space": {"eta": [1]}, "budget": {"trials": 27}},
    "result": {"outcome": "goal_reached", "why": "surely", "trials": 30, "search": "goal", "version": 4,
      "best": {"trial": 3, "params": {"eta": 0.1}, "metrics": {"auc": {"value": 0.8, "low": 0.7, "high": 0.9}}},
      "test": {"metrics": {"auc": {"value": 0.78, "low": 0.72, "high": 0.84}}, "rows": 200, "looks": 2},
      "baselines": {"linear": {"valid": {"auc": {"value": 0.75}}}}, "cost": {"cpu_s": 3, "amount": 0.001}}})");
  const std::string plan = plan_text(job);
  for (const char* part :
       {"credit@3: 700 rows", "binary: so it is", "auc, to be >= 0.7", "id (old)",
        "27 trials in rungs of 55, 166, 500 rounds, over eta; seed 5"})
    CHECK_MESSAGE(plan.find(part) != std::string::npos, plan);
  const std::string end = training_text(job);
  for (const char* part : {"goal_reached: surely", "0.78 (0.72 to 0.84)", "linear",
                           "look 2 at the 200", "registered as version 4"})
    CHECK_MESSAGE(end.find(part) != std::string::npos, end);
}
