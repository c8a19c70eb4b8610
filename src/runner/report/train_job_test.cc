#include "runner/report/train_job.h"

#include <string>

#include "core/reason.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

TEST_CASE("a training's request is read as it was written") {
  const TrainJob job{.trainer = TrainerKind::Linear,
                     .task = TrainTask::Multiclass,
                     .target = "class",
                     .group = "day",
                     .columns = {"a", "b"},
                     .positive = "yes",
                     .params = {{"c", 0.5}},
                     .metric = "f1",
                     .seed = ~std::uint64_t{0},
                     .threads = 3,
                     .memory = mib(300),
                     .rounds = 9,
                     .model = false,
                     .slice = std::chrono::seconds(30),
                     .checkpoint_every = std::chrono::milliseconds(1500),
                     .restored = true};
  const auto read = parse_train_job(to_json(job));
  REQUIRE_MESSAGE(read.has_value(), read.error().message);
  CHECK(**read == job);
  CHECK(**parse_train_job(to_json(TrainJob())) == TrainJob());
  const TrainJob own{
      .trainer = TrainerKind::Function, .function = "own@3", .params = {{"layers", {1, 2}}}};
  CHECK(**parse_train_job(to_json(own)) == own);
  const TrainJob several{.threads = 2, .workers = 4};
  CHECK(**parse_train_job(to_json(several)) == several);
  CHECK_FALSE(parse_train_job(R"({"run": {}})")->has_value());
}

TEST_CASE("a request that cannot be is refused by name") {
  for (const char* text :
       {R"({"train": 1})", R"({"train": {"trainer": "magic"}})", R"({"train": {"task": "guess"}})",
        R"({"train": {"columns": "a"}})", R"({"train": {"columns": [1]}})",
        R"({"train": {"threads": 0}})", R"({"train": {"workers": 0}})",
        R"({"train": {"trainer": "linear", "workers": 2}})", R"({"train": {"speed": 1}})",
        R"({"train": {"trainer": "function"}})", R"({"train": {"function": "own@3"}})"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_train_job(text).has_value());
  }
}

TEST_CASE("an end is one of three, and hostile ones are none") {
  for (const TrainEnd& end :
       {TrainEnd{.how = TrainEnd::How::Finished, .result = R"({"rounds":3})"},
        TrainEnd{.how = TrainEnd::How::Stopped},
        TrainEnd{.how = TrainEnd::How::Refused,
                 .refused = {std::string(reason::kInvalidInput), "no \"such\" column"}}}) {
    const auto read = parse_train_end(to_json(end));
    REQUIRE_MESSAGE(read.has_value(), read.error().message);
    CHECK(*read == end);
  }
  for (const char* text :
       {"", "[]", "{}", R"({"result": 1})", R"({"stopped": false})", R"({"refused": {}})",
        R"({"refused": {"reason": "because", "message": ""}})",
        R"({"result": {}, "stopped": true})"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_train_end(text).has_value());
  }
  CHECK_FALSE(parse_train_end(std::string(kMaxTrainEnd + 1, ' ')).has_value());
}

TEST_CASE("parameters are all there, and wrong ones are refused with the list") {
  for (const TrainerInfo& trainer : trainer_catalogue()) {
    const auto standard = TrainerParams::parse(trainer.kind, Json::object());
    REQUIRE(standard.has_value());
    CHECK(standard->to_json().size() == trainer.params.size());
    const auto again = TrainerParams::parse(trainer.kind, standard->to_json());
    REQUIRE_MESSAGE(again.has_value(), again.error().message);
    for (const TrainerParam& param : trainer.params) {
      CAPTURE(param.name);
      CHECK(param.standard >= param.low);
      CHECK(param.standard <= param.high);
      const auto wrong =
          TrainerParams::parse(trainer.kind, {{std::string(param.name), param.high * 2 + 1}});
      REQUIRE_FALSE(wrong.has_value());
      CHECK(wrong.error().message.find(param.name) != std::string::npos);
    }
  }
  CHECK(TrainerParams::parse(TrainerKind::Xgboost, {{"eta", 0.25}})->real("eta") == 0.25);
  CHECK_FALSE(TrainerParams::parse(TrainerKind::Xgboost, {{"max_depth", 2.5}}).has_value());
  CHECK_FALSE(TrainerParams::parse(TrainerKind::Xgboost, {{"eta", "fast"}}).has_value());
  CHECK_FALSE(TrainerParams::parse(TrainerKind::Xgboost, Json::array()).has_value());
}

TEST_CASE("a trainer says what it cannot take before anything runs") {
  CHECK(check_column(TrainerKind::Xgboost, "a", ColumnKind::Text).has_value());
  const auto image = check_column(TrainerKind::Linear, "photo", ColumnKind::Image);
  REQUIRE_FALSE(image.has_value());
  CHECK(image.error().message.find("'photo', which is of type image") != std::string::npos);
  CHECK_FALSE(check_task(TrainerKind::Kmeans, TrainTask::Binary).has_value());
}

}  // namespace
}  // namespace mayfly
