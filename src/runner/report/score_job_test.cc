#include "runner/report/score_job.h"

#include <string>

#include <doctest/doctest.h>

namespace mayfly {
namespace {

ScoreJob some_job() {
  return {.models = {"champion", "m1"},
          .split = Split::Test,
          .task = TrainTask::Multiclass,
          .target = "class",
          .positive = "b",
          .group = "day",
          .classes = {"a", "b"},
          .metric = "f1",
          .seed = ~std::uint64_t{0},
          .alpha = 0.01,
          .slices = {"sex"},
          .requests = 7,
          .threads = 3,
          .memory = mib(300)};
}

constexpr std::string_view kResult = R"({"split": "test", "metric": "f1", "rows": 10,
  "models": {
    "champion": {"metrics": {"f1": {"value": 0.5, "low": 0.25, "high": null}},
      "confusion": [[1]], "slices": {"sex": [
        {"value": "male", "rows": 7, "metric": {"value": 0.75}}]}},
    "m1": {"metrics": {"f1": {"value": null}, "accuracy": {"value": 1}}}},
  "baselines": {"majority": {"metrics": {"f1": {"value": 0.125}}}}})";

TEST_CASE("a scoring's request is read as it was written") {
  const auto read = parse_score_job(to_json(some_job()));
  REQUIRE_MESSAGE(read.has_value(), read.error().message);
  CHECK(**read == some_job());
  CHECK(**parse_score_job(to_json(ScoreJob())) == ScoreJob());
  CHECK_FALSE(parse_score_job(R"({"train": {}})")->has_value());
}

TEST_CASE("a scoring that cannot be is refused") {
  for (const char* text :
       {R"({"score": 1})", R"({"score": {"models": []}})", R"({"score": {"models": ["../m"]}})",
        R"({"score": {"models": ["a", "a"]}})", R"({"score": {"models": "m0"}})",
        R"({"score": {"models": ["1","2","3","4","5","6","7","8","9"]}})",
        R"({"score": {"split": "../test"}})", R"({"score": {"task": "guess"}})",
        R"({"score": {"alpha": 0}})", R"({"score": {"alpha": "low"}})",
        R"({"score": {"speed": 1}})"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_score_job(text).has_value());
  }
}

TEST_CASE("a scoring's result is read for what is decided by it") {
  const auto read = parse_score_result(kResult, some_job());
  REQUIRE_MESSAGE(read.has_value(), read.error().message);
  CHECK(read->rows == 10);
  CHECK(read->metric == "f1");
  CHECK(read->alpha == 0.01);
  const ModelScore& champion = read->models.at("champion");
  CHECK(champion.metrics.at("f1") == ScoredMetric{.value = 0.5, .low = 0.25, .high = {}});
  REQUIRE(champion.slices.size() == 1);
  CHECK(champion.slices[0] ==
        SliceScore{.column = "sex", .value = "male", .rows = 7, .metric = {.value = 0.75}});
  CHECK_FALSE(read->models.at("m1").metrics.at("f1").value.has_value());
  CHECK(read->baselines.at("majority").at("f1").value == 0.125);
}

TEST_CASE("a hostile result is none") {
  const std::string good(kResult);
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return text;
  };
  for (const std::string& text :
       {std::string("{}"), std::string("[]"), std::string(kMaxTrainEnd + 1, ' '),
        with(R"("rows": 10)", R"("rows": -1)"), with(R"("m1")", R"("m2")"),
        with(R"("metric": "f1")", R"("metric": "auc")"), with("0.25", R"("0.25")"),
        with("0.25", "1e999"), with(R"("sex")", R"("age")"), with(R"("rows": 7)", R"("rows": 7.5)"),
        with(R"({"value": 0.125})", "1")}) {
    CAPTURE(text.substr(0, 400));
    CHECK_FALSE(parse_score_result(text, some_job()).has_value());
  }
}

}  // namespace
}  // namespace mayfly
