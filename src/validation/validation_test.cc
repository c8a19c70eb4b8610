#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "validation/calibration.h"
#include "validation/interval.h"
#include "validation/metric.h"

#include <doctest/doctest.h>

namespace mayfly::validation {
namespace {

// Numbers of 0 to 1 from a linear congruential generator, so that the expected figures below, which
// scikit-learn 1.5 computed from the same numbers, stay checkable.
std::vector<double> uniform(std::size_t count, std::uint64_t seed) {
  constexpr std::uint64_t kModulus = 1ULL << 31;
  std::vector<double> numbers;
  for (std::uint64_t x = seed; numbers.size() < count;) {
    x = (x * 1103515245 + 12345) % kModulus;
    numbers.push_back(static_cast<double>(x) / static_cast<double>(kModulus));
  }
  return numbers;
}

constexpr std::size_t kRows = 200;

double rounded(double value, double to) { return std::nearbyint(value * to) / to; }

ClassPredictions two_classes(std::size_t rows = kRows, double skill = 0.35) {
  const std::vector<double> u = uniform(3 * rows, 7);
  ClassPredictions made{.classes = 2, .truth = {}, .probabilities = {}};
  for (std::size_t i = 0; i < rows; ++i) {
    made.truth.push_back(u[i] < 0.4 ? 1 : 0);
    const double p =
        rounded(std::clamp(0.5 * u[rows + i] + skill * made.truth[i] + 0.05, 0.0, 1.0), 100);
    made.probabilities.push_back(static_cast<float>(1 - p));
    made.probabilities.push_back(static_cast<float>(p));
  }
  return made;
}

ClassPredictions three_classes() {
  const std::vector<double> u = uniform(3 * kRows, 7);
  ClassPredictions made{.classes = 3, .truth = {}, .probabilities = {}};
  for (std::size_t i = 0; i < kRows; ++i) {
    const auto truth = static_cast<std::uint32_t>(u[i] * 3);
    std::vector<double> raw = {u[kRows + i], u[2 * kRows + i], 1 - u[kRows + i]};
    raw[truth] += 0.6;
    const double sum = raw[0] + raw[1] + raw[2];
    const double first = rounded(raw[0] / sum, 1000);
    const double second = rounded(raw[1] / sum, 1000);
    made.truth.push_back(truth);
    for (const double p : {first, second, rounded(1 - first - second, 1000)})
      made.probabilities.push_back(static_cast<float>(p));
  }
  return made;
}

ValuePredictions values() {
  const std::vector<double> u = uniform(2 * kRows, 7);
  ValuePredictions made;
  for (std::size_t i = 0; i < kRows; ++i) {
    made.truth.push_back(10 * u[i]);
    made.value.push_back(10 * u[i] + u[kRows + i] - 0.5);
  }
  return made;
}

doctest::Approx near(double value) { return doctest::Approx(value).epsilon(1e-6); }

TEST_CASE("metrics of two classes are scikit-learn's") {
  const Predictions some = two_classes();
  REQUIRE(check(some).has_value());
  CHECK(score(Metric::Auc, some) == near(0.9603125));
  CHECK(score(Metric::AveragePrecision, some) == near(0.9465881999428576));
  CHECK(score(Metric::LogLoss, some) == near(0.38539517007016655));
  CHECK(score(Metric::Accuracy, some) == near(0.86));
  CHECK(score(Metric::F1, some) == near(0.8157894736842105));
}

TEST_CASE("metrics of three classes are scikit-learn's") {
  const Predictions some = three_classes();
  REQUIRE(check(some).has_value());
  CHECK(score(Metric::Auc, some) == near(0.9462685553728556));
  CHECK(score(Metric::LogLoss, some) == near(0.6544145996171608));
  CHECK(score(Metric::F1, some) == near(0.8115907517184308));
  CHECK(score(Metric::Accuracy, some) == near(0.81));
}

TEST_CASE("metrics of values are scikit-learn's") {
  const Predictions some = values();
  CHECK(score(Metric::Rmse, some) == near(0.2974546151513886));
  CHECK(score(Metric::Mae, some) == near(0.25699336688499896));
  CHECK(score(Metric::R2, some) == near(0.9889376654734724));
}

TEST_CASE("a row that counts twice is a row that is there twice") {
  const ClassPredictions once = two_classes();
  ClassPredictions twice = once;
  std::vector<std::uint32_t> weights(kRows, 1);
  for (const std::size_t row : {3U, 77U, 150U}) {
    weights[row] = 2;
    twice.truth.push_back(once.truth[row]);
    for (const float p : once.row(row)) twice.probabilities.push_back(p);
  }
  const Predictions weighted = once;
  const Predictions repeated = twice;
  for (const MetricInfo& known : catalogue()) {
    if (!fits(known.metric, Task::Binary)) continue;
    CAPTURE(known.name);
    CHECK(Scorer(known.metric, weighted)(weights) == near(score(known.metric, repeated)));
  }
}

TEST_CASE("calibration: what is right as often as it says has no error") {
  ClassPredictions sure{.classes = 2, .truth = {}, .probabilities = {}};
  for (int i = 0; i < 10; ++i) {
    sure.truth.push_back(i < 8 ? 1 : 0);
    sure.probabilities.insert(sure.probabilities.end(), {0.2F, 0.8F});
  }
  CHECK(score(Metric::Ece, Predictions(sure)) == doctest::Approx(0).epsilon(1e-6));
  for (std::uint32_t& truth : sure.truth) truth = 0;
  CHECK(score(Metric::Ece, Predictions(sure)) == doctest::Approx(0.8).epsilon(1e-6));
}

TEST_CASE("a metric without a meaning is no number") {
  const Predictions one_class =
      ClassPredictions{.classes = 2, .truth = {1, 1}, .probabilities = {0.1F, 0.9F, 0.2F, 0.8F}};
  CHECK(std::isnan(score(Metric::Auc, one_class)));
  CHECK(std::isnan(interval(Metric::Auc, one_class, 0.05, 1).low));
  CHECK(std::isnan(score(Metric::R2, Predictions(ValuePredictions{{2, 2}, {1, 3}}))));
}

TEST_CASE("intervals by formula: Wilson's and DeLong's") {
  const Predictions some = two_classes();
  const Interval accuracy = interval(Metric::Accuracy, some, 0.05, 1);
  CHECK(accuracy.low == near(0.8148206991998429));
  CHECK(accuracy.high == near(0.8955693451287187));
  const Interval area = interval(Metric::Auc, some, 0.05, 1);
  CHECK(area.estimate == near(0.9603125));
  CHECK(area.low == near(0.9373602042741034));
  CHECK(area.high == near(0.9750782816549964));
}

TEST_CASE("a perfect score is no certainty") {
  const Predictions perfect =
      ClassPredictions{.classes = 2,
                       .truth = {0, 0, 1, 1},
                       .probabilities = {0.9F, 0.1F, 0.8F, 0.2F, 0.1F, 0.9F, 0.2F, 0.8F}};
  for (const Metric metric : {Metric::Auc, Metric::Accuracy}) {
    const Interval found = interval(metric, perfect, 0.05, 1);
    CHECK(found.estimate == 1);
    CHECK(found.low < 0.9);
  }
}

TEST_CASE(
    "each metric's interval holds its estimate, narrows with rows and repeats with its seed") {
  const Predictions few = two_classes(200);
  const Predictions many = two_classes(3200);
  for (const MetricInfo& known : catalogue()) {
    if (!fits(known.metric, Task::Binary)) continue;
    CAPTURE(known.name);
    const Interval wide = interval(known.metric, few, 0.05, 1);
    const Interval narrow = interval(known.metric, many, 0.05, 1);
    CHECK(wide.low <= wide.estimate);
    CHECK(wide.estimate <= wide.high);
    CHECK(narrow.high - narrow.low < 0.5 * (wide.high - wide.low));
    CHECK(interval(known.metric, few, 0.05, 1).low == wide.low);
  }
}

TEST_CASE("a bootstrapped bound is wrong about as often as it says") {
  // R² of noise around a line: the truth is known from a million rows' worth of algebra.
  constexpr double kTruth = 1 - (1.0 / 12) / (1.0 / 12 + 100.0 / 12);
  int below = 0;
  constexpr int kTrials = 200;
  for (int trial = 0; trial < kTrials; ++trial) {
    const std::vector<double> u = uniform(400, 1000 + static_cast<std::uint64_t>(trial) * 7919);
    ValuePredictions some;
    for (std::size_t i = 0; i < 200; ++i) {
      some.value.push_back(10 * u[2 * i]);
      some.truth.push_back(10 * u[2 * i] + u[2 * i + 1] - 0.5);
    }
    below += interval(Metric::R2, Predictions(some), 0.05, 1).low > kTruth ? 1 : 0;
  }
  CHECK(below < kTrials * 0.12);
}

TEST_CASE("few rows prove little, however well they are told") {
  ClassPredictions perfect{.classes = 2, .truth = {}, .probabilities = {}};
  for (std::uint32_t row = 0; row < 37; ++row) {
    perfect.truth.push_back(row % 2);
    for (const std::uint32_t label : {0U, 1U})
      perfect.probabilities.push_back(label == row % 2 ? 0.99F : 0.01F);
  }
  for (const Metric metric : {Metric::F1, Metric::AveragePrecision, Metric::Auc}) {
    const Interval all_right = interval(metric, Predictions(perfect), 0.05, 1);
    CAPTURE(info(metric).name);
    CHECK(all_right.estimate == doctest::Approx(1));
    CHECK(all_right.low > 0.5);
    CHECK(all_right.low < 0.95);
  }
  ValuePredictions three;
  three.truth = {1, 2, 4};
  three.value = {1.4, 2.3, 3.2};
  const Interval fit = interval(Metric::R2, Predictions(three), 0.05, 1);
  CHECK(fit.estimate > 0.7);
  CHECK(std::isnan(fit.low));  // resamples of three rows are a handful
  const Interval error = interval(Metric::Rmse, Predictions(three), 0.05, 1);
  CHECK(error.high > 1.4 * error.estimate);
}

TEST_CASE("the better of two on the same rows is found, and equals are not told apart") {
  const Predictions champion = two_classes(800, 0.2);
  const Predictions challenger = two_classes(800, 0.4);
  for (const Metric metric : {Metric::Accuracy, Metric::Auc, Metric::LogLoss}) {
    CAPTURE(info(metric).name);
    const auto better = compare(metric, champion, challenger, 0.05, 1);
    REQUIRE(better.has_value());
    CHECK(better->improvement.low > 0);
    CHECK(better->p_value < 0.01);
    const auto worse = compare(metric, challenger, champion, 0.05, 1);
    CHECK(worse->improvement.high < 0);
    CHECK(worse->p_value > 0.9);
    const auto same = compare(metric, champion, champion, 0.05, 1);
    CHECK(same->improvement.estimate == 0);
    CHECK(same->p_value > 0.4);
  }
  CHECK_FALSE(
      compare(Metric::Auc, champion, Predictions(two_classes(799, 0.4)), 0.05, 1).has_value());
}

TEST_CASE("McNemar counts only the rows about which the two disagree") {
  ClassPredictions before{.classes = 2, .truth = {}, .probabilities = {}};
  ClassPredictions after = before;
  const auto add = [](ClassPredictions& to, bool right) {
    to.truth.push_back(1);
    to.probabilities.insert(to.probabilities.end(), {right ? 0.1F : 0.9F, right ? 0.9F : 0.1F});
  };
  for (int i = 0; i < 100; ++i) {
    add(before, i >= 9);             // wrong about the first 9
    add(after, i != 20 && i != 21);  // wrong about two others
  }
  const auto found = compare(Metric::Accuracy, Predictions(before), Predictions(after), 0.05, 1);
  REQUIRE(found.has_value());
  CHECK(found->p_value == near(0.03271484375));
  CHECK(found->improvement.estimate == near(0.07));
}

TEST_CASE("bounds at another level are about those that the rows give") {
  for (const Metric metric : {Metric::Auc, Metric::Accuracy, Metric::LogLoss, Metric::F1}) {
    CAPTURE(static_cast<int>(metric));
    const Predictions some = two_classes(1000);
    const Interval wide = interval(metric, some, 0.001, 3);
    const Interval said = at_alpha(metric, interval(metric, some, 0.025, 3), 0.025, 0.001);
    const double half = (wide.high - wide.low) / 2;
    CHECK(std::abs(said.low - wide.low) < 0.15 * half);
    CHECK(std::abs(said.high - wide.high) < 0.15 * half);
  }
  const Predictions numbers = values();
  for (const Metric metric : {Metric::Rmse, Metric::Mae, Metric::R2}) {
    CAPTURE(static_cast<int>(metric));
    const Interval wide = interval(metric, numbers, 0.001, 3);
    const Interval said = at_alpha(metric, interval(metric, numbers, 0.025, 3), 0.025, 0.001);
    const double half = (wide.high - wide.low) / 2;
    CHECK(std::abs(said.low - wide.low) < 0.25 * half);
    CHECK(std::abs(said.high - wide.high) < 0.25 * half);
  }
  // Of 50 rows that are all right: Wilson's own.
  const Interval perfect{1, 50 / (50 + 1.959964 * 1.959964), 1};
  CHECK(at_alpha(Metric::Accuracy, perfect, 0.025, 0.005).low ==
        doctest::Approx(50 / (50 + 2.575829 * 2.575829)).epsilon(1e-4));
}

TEST_CASE("a list is worth its hits among the first ten, and more if they come early") {
  const std::vector<std::uint8_t> hits = {1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1};
  CHECK(gain_at_10(Metric::RecallAt10, hits, 4) == 0.5);
  const double best = 1 + 1 / std::log2(3.0) + 1 / std::log2(4.0) + 1 / std::log2(5.0);
  CHECK(gain_at_10(Metric::NdcgAt10, hits, 4) == doctest::Approx((1 + 1 / std::log2(4.0)) / best));
  CHECK(gain_at_10(Metric::NdcgAt10, std::vector<std::uint8_t>{1}, 1) == 1);
  CHECK(gain_at_10(Metric::RecallAt10, {}, 3) == 0);
}

TEST_CASE("what lists are worth has bounds, also where all are perfect") {
  ValuePredictions some;
  for (int user = 0; user < 100; ++user) {
    some.truth.push_back(2);
    some.value.push_back(user % 2 == 0 ? 0.5 : 1.0);
  }
  const Interval mixed = interval(Metric::RecallAt10, some, 0.025, 1);
  CHECK(mixed.estimate == doctest::Approx(0.75));
  CHECK(mixed.low == doctest::Approx(0.75 - 1.96 * 0.2513 / 10).epsilon(0.001));
  some.value.assign(100, 1.0);
  const Interval perfect = interval(Metric::RecallAt10, some, 0.025, 1);
  CHECK(perfect.estimate == 1);
  CHECK(perfect.low == doctest::Approx(0.963).epsilon(0.001));
  CHECK(at_alpha(Metric::RecallAt10, perfect, 0.025, 0.001).low < perfect.low);
}

TEST_CASE("how many rows would decide grows with the square of what is missing") {
  const Interval seen{.estimate = 0.80, .low = 0.76, .high = 0.84};
  CHECK(rows_to_decide(seen, 0.78, 100) == 400);
  CHECK(rows_to_decide(seen, 0.82, 100) == 400);
  CHECK(rows_to_decide(seen, 0.79, 100) == 1600);
  CHECK_FALSE(rows_to_decide(seen, 0.80, 100).has_value());
}

TEST_CASE("names: tasks and metrics, and which fit") {
  for (const MetricInfo& known : catalogue()) {
    CHECK(*parse_metric(known.name) == known.metric);
    CHECK_FALSE(known.meaning.empty());
  }
  CHECK(parse_metric("auk").error().message.find("auc") != std::string::npos);
  CHECK(parse_task("ranking").error().message.find("regression") != std::string::npos);
  for (const Task task : {Task::Binary, Task::Multiclass, Task::Regression, Task::Recommendation}) {
    CHECK(*parse_task(to_string(task)) == task);
    CHECK(fits(default_metric(task), task));
  }
  CHECK_FALSE(fits(Metric::Auc, Task::Regression));
  CHECK_FALSE(fits(Metric::Rmse, Task::Binary));
  CHECK_FALSE(fits(Metric::RecallAt10, Task::Regression));
  CHECK_FALSE(fits(Metric::Auc, Task::Recommendation));
  CHECK(reaches(Metric::LogLoss, 0.4, 0.5));
  CHECK_FALSE(reaches(Metric::Auc, 0.4, 0.5));
}

TEST_CASE("predictions that cannot be are refused with their row") {
  ClassPredictions some = two_classes(10);
  some.probabilities[6] = NAN;
  CHECK(check(Predictions(some)).error().message.find("row 3") != std::string::npos);
  some = two_classes(10);
  some.probabilities[6] = 0.9F;
  some.probabilities[7] = 0.9F;
  CHECK(check(Predictions(some)).error().message.find("add up") != std::string::npos);
  some = two_classes(10);
  some.truth[4] = 2;
  CHECK(check(Predictions(some)).error().message.find("row 4") != std::string::npos);
  some.probabilities.pop_back();
  CHECK_FALSE(check(Predictions(some)).has_value());
  CHECK_FALSE(check(Predictions(ValuePredictions{{1, INFINITY}, {1, 2}})).has_value());
  CHECK_FALSE(check(Predictions(ValuePredictions{})).has_value());
}

TEST_CASE("calibration is what the metric of its name weighs") {
  const ClassPredictions some = two_classes();
  const auto bins = calibration(some);
  REQUIRE(bins.size() == 15);
  std::size_t rows = 0;
  double error = 0;
  for (const CalibrationBin& bin : bins) {
    rows += bin.rows;
    error += static_cast<double>(bin.rows) * std::abs(bin.accuracy - bin.confidence);
    if (bin.rows > 0) CHECK((bin.confidence >= bin.low - 1e-9 && bin.confidence <= bin.high));
  }
  CHECK(rows == some.rows());
  CHECK(error / static_cast<double>(rows) == doctest::Approx(score(Metric::Ece, some)));
  const ClassPredictions sure{.classes = 2, .truth = {1, 0}, .probabilities = {0, 1, 0, 1}};
  CHECK(calibration(sure).back().rows == 2);
  CHECK(calibration(sure).back().accuracy == 0.5);
}

}  // namespace
}  // namespace mayfly::validation
