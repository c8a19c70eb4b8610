#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "runner/train/linear_model.h"
#include "runner/train/testing/runtime.h"
#include "runner/train/testing/snapshot.h"
#include "runner/train/trained_model.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

// Exports y = 2 x, and says it, but for an error from some x on.
class LyingTrainer final : public Trainer {
 public:
  double error = 0;
  float from = -std::numeric_limits<float>::infinity();
  bool classes = false;

  std::uint32_t rounds() const override { return 1; }
  std::uint32_t most_rounds() const override { return 1; }
  Status step() override { return {}; }
  Result<Scores> score_valid() override { return Scores(); }
  Status keep_rounds(std::uint32_t) override { return {}; }
  Result<Scores> score(std::span<const float> rows) override {
    Scores scores{.width = classes ? 2U : 1U, .values = {}};
    for (const float x : rows) {
      double value = 2 * static_cast<double>(x);
      if (classes) value = 1 / (1 + std::exp(-value));
      if (x >= from) value += error;
      if (classes) scores.values.push_back(static_cast<float>(1 - value));
      scores.values.push_back(static_cast<float>(value));
    }
    return scores;
  }
  Result<std::string> save() override { return std::string(); }
  Status restore(std::string_view) override { return {}; }
  Result<ModelNodes> add_to(OnnxGraph& graph, const std::string& features) override {
    ModelNodes nodes;
    auto output = add_linear(graph,
                             {.features = 1,
                              .outputs = 1,
                              .weights = {2},
                              .biases = {0},
                              .link = classes ? Link::Logistic : Link::Identity},
                             features);
    (classes ? nodes.probabilities : nodes.value) = *output;
    return nodes;
  }
  Result<std::vector<double>> importance() override { return std::vector<double>(); }
};

ParityReport parity_of(LyingTrainer& trainer) {
  const TempDir dir = *TempDir::create();
  std::vector<double> x;
  for (int i = 0; i < 200; ++i) x.push_back(i < 10 ? 1e-7 * i : 0.01 * (i - 100));
  const Snapshot snapshot{{{"x", ColumnKind::Number, x}}};
  snapshot.write(dir.path(), 0, "train", row_numbers(0, 150));
  snapshot.write(dir.path(), 0, "valid", row_numbers(150, 50));
  const auto train = *TrainTable::open(dir.path(), "train");
  const auto valid = *TrainTable::open(dir.path(), "valid");
  const std::vector<Feature> plan = {NumberFeature{.column = "x"}};
  const auto features = *FeatureGraph::open(test_runtime(), plan, 1);
  const ClassNames classes{std::vector<std::string>{"no", "yes"}};
  const auto model = make_model(plan, trainer.classes ? classes : ClassNames(), trainer);
  REQUIRE_MESSAGE(model.has_value(), model.error().message);
  const auto train_rows = row_numbers(0, 150);
  const auto valid_rows = row_numbers(0, 50);
  auto report = check_parity({.runtime = test_runtime(),
                              .task = trainer.classes ? TrainTask::Binary : TrainTask::Regression,
                              .model = *model,
                              .features = features,
                              .classes = classes,
                              .trainer = trainer,
                              .valid = {valid, valid_rows},
                              .train = {train, train_rows},
                              .seed = 1});
  REQUIRE_MESSAGE(report.has_value(), report.error().message);
  return *std::move(report);
}

TEST_CASE("a graph that says what its trainer says passes, on a thousand rows and more") {
  LyingTrainer trainer;
  for (const bool classes : {false, true}) {
    trainer.classes = classes;
    const ParityReport report = parity_of(trainer);
    CHECK_MESSAGE(report.passed, report.details.dump());
    CHECK(report.details.at("rows").get<int>() > 1000);
    const Json& from = report.details.at("from");
    CHECK(from.at("valid") == 50);
    CHECK(from.at("train") == 150);
    CHECK(from.at("perturbed") == 800);
    CHECK(from.at("missing") == 2);
    CHECK(from.at("extreme") == 3);
  }
}

TEST_CASE("a value that is off by more than its share of the spread fails, and its row is shown") {
  LyingTrainer trainer;
  trainer.from = 0.9F;
  trainer.error = 1e-6;  // of values with a deviation of about 0.8
  CHECK(parity_of(trainer).passed);
  trainer.error = 1e-4;
  const ParityReport report = parity_of(trainer);
  CHECK_FALSE(report.passed);
  const Json& worst = report.details.at("worst");
  CHECK(worst.at("output") == "value");
  CHECK(worst.at("row").at("x").get<double>() > 0.89);
  CHECK(worst.at("difference").get<double>() == doctest::Approx(1e-4).epsilon(0.01));
}

TEST_CASE("labels may differ where two classes are as good as equal, and nowhere else") {
  LyingTrainer trainer;
  trainer.classes = true;
  trainer.error = -4e-6;
  const ParityReport ties = parity_of(trainer);
  CHECK_MESSAGE(ties.passed, ties.details.dump());
  CHECK(ties.details.at("ties").get<int>() > 0);
  trainer.error = -0.1;
  const ParityReport wrong = parity_of(trainer);
  CHECK_FALSE(wrong.passed);
  CHECK(wrong.details.at("label_mismatches").get<int>() > 0);
  CHECK(wrong.details.at("worst").at("output") == "label");
}

}  // namespace
}  // namespace mayfly
