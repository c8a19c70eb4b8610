#include "runner/train/scoring.h"

#include <sys/socket.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/testing/fake_clock.h"
#include "core/reason.h"
#include "core/wire/infer_request.h"
#include "runner/train/onnx_graph.h"
#include "runner/train/testing/runtime.h"
#include "runner/train/testing/snapshot.h"
#include "runner/train/worker.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using onnx::TensorProto;
constexpr std::array<std::int64_t, 1> kRow = {-1};

// A snapshot with a model on it, and scorings of them.
struct ScoreRun {
  TempDir dir = *TempDir::create();
  Path source = dir.path() / "source";
  Path work = dir.path() / "work";

  Json trained(const TrainJob& job) {
    fresh_work();
    SocketPair pair = *make_seqpacket_pair();
    std::thread listener([&] {
      std::array<char, 16 * 1024> text;
      while (::recv(pair.ours.get(), text.data(), text.size(), 0) > 0)
        (void)::send(pair.ours.get(), R"({"kept": true})", 14, MSG_NOSIGNAL);
    });
    const FakeClock clock;
    const Status done =
        run_training(test_runtime(), pair.theirs.get(), job,
                     {.source = source, .work = work, .runtime = train_runtime()}, clock);
    pair.theirs.reset();
    listener.join();
    REQUIRE_MESSAGE(done.has_value(), done.error().message);
    const TrainEnd end = *parse_train_end(*read_file(work / "end.json"));
    REQUIRE_MESSAGE(end.how == TrainEnd::How::Finished, end.refused.message);
    give_model("m0", *read_file(work / "output" / "model.onnx", 1 << 30));
    return *parse_json(end.result, "result");
  }

  void give_model(const std::string& name, std::string_view bytes) const {
    REQUIRE(make_directories(source / "models").has_value());
    std::ofstream(source / "models" / (name + ".onnx"), std::ios::binary) << bytes;
  }

  TrainEnd score(const ScoreJob& job) {
    fresh_work();
    const Status done =
        run_scoring(test_runtime(), job, {.source = source, .work = work, .runtime = {}});
    REQUIRE_MESSAGE(done.has_value(), done.error().message);
    return *parse_train_end(*read_file(work / "end.json"));
  }

  Json scored(const ScoreJob& job) {
    const TrainEnd end = score(job);
    REQUIRE_MESSAGE(end.how == TrainEnd::How::Finished, end.refused.message);
    const auto strict = parse_score_result(end.result, job);
    REQUIRE_MESSAGE(strict.has_value(), strict.error().message);
    return *parse_json(end.result, "result");
  }

  std::string refused(const ScoreJob& job) {
    const TrainEnd end = score(job);
    REQUIRE(end.how == TrainEnd::How::Refused);
    CHECK(end.refused.reason == reason::kInvalidInput);
    return end.refused.message;
  }

 private:
  void fresh_work() const {
    std::filesystem::remove_all(work);
    REQUIRE(make_directories(work).has_value());
  }
};

// y is x, as an FP32 `value`, of an input of that name and type.
std::string copy_of(const std::string& input, TensorProto::DataType type,
                    const std::string& output = "value") {
  OnnxGraph graph("copy");
  graph.add_input(input, type, kRow);
  graph.add("Cast", {input}, "", output);
  set_attribute(graph.last(), "to", std::int64_t{TensorProto::FLOAT});
  graph.add_output(output, TensorProto::FLOAT, kRow);
  return *graph.serialize();
}

TEST_CASE("rows become requests of a model, without what they are to be answered with") {
  ScoreRun run;
  every_type(2000).split(run.source, 4);
  (void)run.trained({.trainer = TrainerKind::Linear,
                     .target = "outcome",
                     .columns = {"amount", "count", "day", "colour", "words"}});
  const auto schema = *parse_json(*read_file(run.source / "schema.json"), "schema");
  std::size_t outcome = 0;
  while (schema["columns"][outcome]["name"] != "outcome") ++outcome;
  for (const auto& part : std::filesystem::directory_iterator(run.source / "parts"))
    std::filesystem::remove(part.path() / "valid" / ("c" + std::to_string(outcome) + ".npy"));
  const ScoreJob job{
      .task = TrainTask::Binary, .target = "outcome", .classes = {"no", "yes"}, .requests = 50};
  const TrainEnd end = run.score(job);
  REQUIRE_MESSAGE(end.how == TrainEnd::How::Finished, end.refused.message);
  CHECK(*parse_requests_result(end.result, job) == 50);
  std::ifstream file(run.work / "output" / "requests.jsonl");
  std::set<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.insert(line);
    JsonParser parser;
    Signature signature;
    signature.inputs = {{"amount", DataType::Fp32, {-1}},
                        {"count", DataType::Fp32, {-1}},
                        {"day", DataType::Int64, {-1}},
                        {"colour", DataType::Bytes, {-1}},
                        {"words", DataType::Bytes, {-1}}};
    signature.outputs = {{"label", DataType::Bytes, {-1}}};
    const auto read =
        decode_infer_request(parser, line, signature, {.bytes = 1 << 20, .setting = "of a row"});
    CHECK_MESSAGE(read.has_value(), line);
  }
  CHECK(lines.size() == 50);
  CHECK_FALSE(parse_requests_result(R"({"requests": 51})", job).has_value());
  CHECK_FALSE(parse_requests_result(R"({"rows": 50})", job).has_value());
}

TEST_CASE("a model is worth on the validation rows what its training said") {
  ScoreRun run;
  every_type(2000).split(run.source, 4);
  const TrainJob training{.trainer = TrainerKind::Linear,
                          .target = "outcome",
                          .columns = {"amount", "count", "day", "colour", "words"}};
  const Json trained = run.trained(training);
  const ScoreJob job{.task = TrainTask::Binary,
                     .target = "outcome",
                     .positive = "yes",
                     .classes = {"no", "yes"},
                     .slices = {"colour"}};
  const Json result = run.scored(job);
  const Json& model = result.at("models").at("m0");
  for (const auto& [name, metric] : trained.at("metrics").items()) {
    CAPTURE(name);
    for (const char* figure : {"value", "low", "high"})
      CHECK(model.at("metrics").at(name).at(figure).get<double>() ==
            doctest::Approx(metric.at(figure).get<double>()).epsilon(1e-4));
  }
  CHECK(result.at("rows") == trained.at("rows").at("valid"));
  CHECK(result.at("metric") == "auc");
  CHECK(model.at("calibration").at("bins").size() == 15);
  CHECK(model.at("calibration").at("ece") == model.at("metrics").at("ece").at("value"));
  const Json& colours = model.at("slices").at("colour");
  REQUIRE(colours.size() == 4);
  std::size_t rows = 0;
  for (const Json& slice : colours) rows += slice.at("rows").get<std::size_t>();
  CHECK(rows == result.at("rows").get<std::size_t>());
  const Json& majority = result.at("baselines").at("majority").at("metrics");
  CHECK(majority.at("auc").at("value") == 0.5);
  CHECK(majority.at("accuracy").at("value") < model.at("metrics").at("accuracy").at("value"));
  const auto keys = NpyColumn::open(run.work / "output" / "row.npy");
  const auto said = NpyColumn::open(run.work / "output" / "m0" / "probabilities.npy");
  const auto truth = NpyColumn::open(run.work / "output" / "truth.npy");
  REQUIRE((keys && said && truth));
  const auto places = NpyColumn::open(run.work / "output" / "slices" / "0.npy");
  REQUIRE(places);
  CHECK(places->rows() == keys->rows());
  std::vector<std::size_t> counts(colours.size());
  for (const std::int32_t place : places->as<std::int32_t>())
    ++counts.at(static_cast<std::size_t>(place));
  for (std::size_t i = 0; i < colours.size(); ++i) CHECK(colours[i].at("rows") == counts[i]);
  CHECK(keys->rows() == truth->rows());
  CHECK(said->shape() == std::vector<std::uint64_t>{keys->rows(), 2});
}

TEST_CASE("an interval is as wide as its alpha asks") {
  ScoreRun run;
  every_type(1000).split(run.source, 4);
  run.give_model("m0", copy_of("amount", TensorProto::FLOAT));
  run.give_model("m1", copy_of("shelf", TensorProto::INT64));
  ScoreJob job{.models = {"m1"}, .task = TrainTask::Regression, .target = "price"};
  const Json wide = run.scored(job).at("models").at("m1").at("metrics").at("rmse");
  job.alpha = 0.2;
  const Json narrow = run.scored(job).at("models").at("m1").at("metrics").at("rmse");
  CHECK(narrow.at("low") > wide.at("low"));
  CHECK(narrow.at("value") == wide.at("value"));
  // A column with holes, as it is: what it says is no value.
  job.models = {"m1", "m0"};
  CHECK(run.refused(job).find("m0: row 0: a value is not finite") == 0);
}

TEST_CASE("rows with a time are held against the value before") {
  ScoreRun run;
  std::vector<double> x;
  std::vector<std::int64_t> day;
  for (int i = 0; i < 400; ++i) {
    const int place = i * 173 % 400;  // they come in no order
    day.push_back(place * std::int64_t{86'400'000});
    x.push_back(place);
  }
  const Snapshot snapshot{
      {{"x", ColumnKind::Number, x}, {"day", ColumnKind::Date, day}, {"y", ColumnKind::Number, x}}};
  snapshot.split(run.source, 4);
  run.give_model("m0", copy_of("x", TensorProto::FLOAT));
  const ScoreJob job{.split = Split::Train, .task = TrainTask::Regression, .target = "y"};
  CHECK_FALSE(run.scored(job).at("baselines").contains("last_value"));
  Json schema = *parse_json(*read_file(run.source / "schema.json"), "schema");
  schema["event_time"] = "day";
  std::ofstream(run.source / "schema.json") << schema.dump();
  const Json timed = run.scored(job);
  CHECK(timed.at("models").at("m0").at("metrics").at("mae").at("value") == 0.0);
  const auto mae = [&](const char* baseline) {
    return timed.at("baselines").at(baseline).at("metrics").at("mae").at("value").get<double>();
  };
  CHECK(mae("last_value") < 3);
  CHECK(mae("mean") > 50);
}

TEST_CASE("a class that no model knows counts against all of them") {
  ScoreRun run;
  std::vector<std::string> names;
  std::vector<double> x;
  for (int i = 0; i < 300; ++i) {
    names.emplace_back(1, "abcd"[i % 10 == 0 ? 3 : i % 3]);
    x.push_back(i % 3);
  }
  const Snapshot snapshot{{{"x", ColumnKind::Number, x}, {"y", ColumnKind::Category, names}}};
  snapshot.split(run.source, 4);
  OnnxGraph graph("place");  // the class is x
  graph.add_input("x", TensorProto::FLOAT, kRow);
  const std::string place = graph.add("Cast", {"x"});
  set_attribute(graph.last(), "to", std::int64_t{TensorProto::INT64});
  const std::string depth = graph.add_integers("depth", std::array<std::int64_t, 1>{3}, {});
  const std::string values =
      graph.add_floats("values", std::array{0.0F, 1.0F}, std::array<std::int64_t, 1>{2});
  graph.add("OneHot", {place, depth, values}, "", "probabilities");
  graph.add_output("probabilities", TensorProto::FLOAT, std::array<std::int64_t, 2>{-1, 3});
  run.give_model("m0", *graph.serialize());
  ScoreJob job{.task = TrainTask::Multiclass, .target = "y", .classes = {"a", "b", "c"}};
  const Json metrics = run.scored(job).at("models").at("m0").at("metrics");
  CHECK(metrics.at("accuracy").at("value") < 0.95);
  CHECK(metrics.at("accuracy").at("value") > 0.8);
  job.task = TrainTask::Binary;
  job.classes = {"a", "b"};
  CHECK(run.refused(job).find("beside 'a' and 'b'") != std::string::npos);
}

TEST_CASE("a model that cannot be asked is refused in words for who made it") {
  ScoreRun run;
  every_type(400).split(run.source, 4);
  const ScoreJob job{.task = TrainTask::Regression, .target = "price"};
  const auto complaint = [&](std::string_view bytes) {
    run.give_model("m0", bytes);
    return run.refused(job);
  };
  const auto has = [](const std::string& text, std::string_view words) {
    CAPTURE(text);
    CHECK(text.find(words) != std::string::npos);
  };
  has(complaint("no model at all"), "cannot be opened");
  has(complaint(""), "cannot be opened");
  has(complaint(copy_of("price", TensorProto::FLOAT)), "'price', which it is not told");
  has(complaint(copy_of("speed", TensorProto::FLOAT)), "which is no column");
  has(complaint(copy_of("amount", TensorProto::INT64)), "let it take FP32 or FP64");
  has(complaint(copy_of("colour", TensorProto::FLOAT)), "let it take BYTES");
  has(complaint(copy_of("shelf", TensorProto::FLOAT, "variable")),
      "has no output 'value' FP32 [rows]");
  OnnxGraph graph("sum");  // one value of all rows
  graph.add_input("shelf", TensorProto::FLOAT, kRow);
  graph.add("ReduceSum", {"shelf"}, "", "value");
  graph.add_output("value", TensorProto::FLOAT, kRow);
  has(complaint(*graph.serialize()), "gave 'value'");
  ScoreJob sliced = job;
  sliced.slices = {"amount"};
  run.give_model("m0", copy_of("shelf", TensorProto::FLOAT));
  has(run.refused(sliced), "'amount' is no column of categories");
}

TEST_CASE("a model may take all numbers as one matrix") {
  ScoreRun run;
  std::vector<double> x;
  std::vector<std::int64_t> count;
  std::vector<double> y;
  for (int i = 0; i < 200; ++i) {
    x.push_back(0.5 * i);
    count.push_back(i % 7);
    y.push_back(x.back() + static_cast<double>(count.back()));
  }
  const Snapshot snapshot{{{"x", ColumnKind::Number, x},
                           {"y", ColumnKind::Number, y},
                           {"n", ColumnKind::Integer, count}}};
  snapshot.split(run.source, 4);
  OnnxGraph graph("sum");
  graph.add_input("X", TensorProto::FLOAT, std::array<std::int64_t, 2>{-1, 2});
  graph.add("ReduceSum",
            {"X", graph.add_integers("axis", std::array<std::int64_t, 1>{1},
                                     std::array<std::int64_t, 1>{1})},
            "", "value");
  graph.add_output("value", TensorProto::FLOAT, std::array<std::int64_t, 2>{-1, 1});
  run.give_model("m0", *graph.serialize());
  const Json result = run.scored({.task = TrainTask::Regression, .target = "y"});
  CHECK(result.at("models").at("m0").at("metrics").at("mae").at("value") == doctest::Approx(0));
}

}  // namespace
}  // namespace mayfly
