#include "runner/report/function_training.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

const TrainJob kJob{.trainer = TrainerKind::Function,
                    .function = "own@3",
                    .task = TrainTask::Multiclass,
                    .target = "y",
                    .params = {{"layers", {8, 8}}},
                    .threads = 2};

TEST_CASE("the steps of a function's training are read as they were written") {
  for (const FunctionStep step : {FunctionStep::Facts, FunctionStep::Check}) {
    const auto read = parse_function_step(to_json(step, kJob));
    REQUIRE_MESSAGE(read.has_value(), read.error().message);
    CHECK((*read)->step == step);
    CHECK((*read)->job == kJob);
  }
  const TrainFunctionJob job{.job = kJob, .invocation = "1234"};
  const auto read = parse_train_function_job(to_json(job));
  REQUIRE_MESSAGE(read.has_value(), read.error().message);
  CHECK(**read == job);
}

TEST_CASE("requests of other kinds are none of them, and wrong ones are refused") {
  CHECK_FALSE(parse_function_step(to_json(kJob))->has_value());
  CHECK_FALSE(parse_train_function_job(to_json(kJob))->has_value());
  CHECK_FALSE(parse_function_step(R"({"train_facts": {}})").has_value());  // a built-in trainer
  CHECK_FALSE(parse_train_function_job(R"({"train_function": {}})").has_value());
  CHECK_FALSE(parse_train_function_job(R"({"train_function": {"train": {}}})").has_value());
}

}  // namespace
}  // namespace mayfly
