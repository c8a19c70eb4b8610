#include "runner/train/feature_plan.h"

#include <fmt/format.h>

#include <cmath>
#include <string>
#include <vector>

#include "runner/train/testing/runtime.h"
#include "runner/train/testing/snapshot.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

constexpr std::int64_t kDay = 86'400'000;

Snapshot mixed() {
  return {{{"n", ColumnKind::Number, std::vector<double>{1, NAN, 3, 5}},
           {"same", ColumnKind::Number, std::vector<double>{7, 7, 7, 7}},
           {"nothing", ColumnKind::Integer,
            std::vector<std::int64_t>{kNoInteger, kNoInteger, kNoInteger, kNoInteger}},
           {"day", ColumnKind::Date,
            std::vector<std::int64_t>{0, kDay, kNoInteger, 40 * kDay}},  // 1970-02-10
           {"c", ColumnKind::Category, std::vector<std::string>{"b", "a", "a", ""}},
           {"t", ColumnKind::Text, std::vector<std::string>{"Not good", "good", "not GOOD at", ""}},
           {"y", ColumnKind::Number, std::vector<double>{0, 1, 0, 1}}}};
}

struct Planned {
  TempDir dir = *TempDir::create();
  TrainTable table;
  FeaturePlan plan;
  explicit Planned(const Snapshot& snapshot, const PlanOptions& options,
                   std::vector<std::size_t> columns)
      : table([&] {
          snapshot.write(dir.path(), 0, "train",
                         row_numbers(0, static_cast<std::uint32_t>(snapshot.rows())));
          return *TrainTable::open(dir.path(), "train");
        }()) {
    auto fitted = fit_plan(test_runtime(), table, columns, row_numbers(0, table.rows()), options);
    REQUIRE_MESSAGE(fitted.has_value(), fitted.error().message);
    plan = *std::move(fitted);
  }
};

TEST_CASE("what says nothing is left out, and why is told") {
  const Planned planned(mixed(), {}, {0, 1, 2, 3, 4, 5});
  CHECK(planned.plan.features.size() == 4);
  REQUIRE(planned.plan.left_out.size() == 2);
  CHECK(planned.plan.left_out[0].column == "same");
  CHECK(planned.plan.left_out[1].why == "it has no values");
}

TEST_CASE("the matrix of trees has values as they are, and missing ones stay so") {
  const Planned planned(mixed(), {}, {0, 3, 4, 5});
  const auto graph = FeatureGraph::open(test_runtime(), planned.plan.features, 1);
  REQUIRE_MESSAGE(graph.has_value(), graph.error().message);
  CHECK(graph->names() == std::vector<std::string>{"n", "day.month", "day.day", "day.weekday",
                                                   "day.days", "c=b", "c=a", "t:good", "t:not",
                                                   "t:not good"});
  const auto matrix =
      Matrix::make(*graph, planned.table, row_numbers(0, 4), planned.dir.path() / "matrix.npy");
  REQUIRE_MESSAGE(matrix.has_value(), matrix.error().message);
  REQUIRE(matrix->rows() == 4);
  const auto first = matrix->rows(0, 1);
  CHECK(first[0] == 1);
  CHECK(first[1] == 1);  // January
  CHECK(first[5] == 1);  // "b"
  CHECK(first[6] == 0);
  CHECK(first[9] > 0);  // "not good", in whatever case
  CHECK(std::isnan(matrix->rows(1, 1)[0]));
  CHECK(std::isnan(matrix->rows(2, 1)[1]));
  const auto last = matrix->rows(3, 1);
  CHECK(last[2] == 10);
  CHECK(last[4] == 40);
  CHECK(last[5] + last[6] == 0);
}

TEST_CASE("the matrix of linear models is standardised, and missing values are the mean") {
  const Planned planned(mixed(), {.scaled = true}, {0, 3});
  const auto graph = FeatureGraph::open(test_runtime(), planned.plan.features, 1);
  const auto matrix =
      Matrix::make(*graph, planned.table, row_numbers(0, 4), planned.dir.path() / "matrix.npy");
  REQUIRE(matrix.has_value());
  CHECK(matrix->rows(1, 1)[0] == 0);
  CHECK(matrix->rows(0, 1)[0] == doctest::Approx(-std::sqrt(1.5)));
  for (std::size_t column = 1; column < matrix->width(); ++column) {
    float sum = 0;
    for (std::size_t row = 0; row < 4; ++row) sum += matrix->rows(row, 1)[column];
    CHECK(sum == doctest::Approx(0).epsilon(1e-5));
    CHECK(matrix->rows(2, 1)[column] == 0);
  }
}

TEST_CASE("many categories become ranks by frequency, or the most frequent ones only") {
  Snapshot snapshot;
  std::vector<std::string> values;
  for (int i = 0; i < 10; ++i)
    for (int j = 0; j <= i; ++j) values.push_back(fmt::format("v{}", i));
  snapshot.columns.push_back({"c", ColumnKind::Category, values});
  const Planned ranks(snapshot, {.one_hot = 3}, {0});
  const auto& ordinal = std::get<CategoryFeature>(ranks.plan.features[0]);
  CHECK(ordinal.code == CategoryCode::Ordinal);
  CHECK(ordinal.categories.size() == 10);
  CHECK(ordinal.categories[0] == "v9");
  const Planned top(snapshot, {.one_hot = 3, .ranks = false}, {0});
  CHECK(std::get<CategoryFeature>(top.plan.features[0]).categories ==
        std::vector<std::string>{"v9", "v8", "v7"});
}

TEST_CASE("only the rows that are given are fitted on") {
  const TempDir dir = *TempDir::create();
  mixed().write(dir.path(), 0, "train", row_numbers(0, 4));
  const auto table = TrainTable::open(dir.path(), "train");
  const std::vector<std::uint32_t> rows = {1, 2};
  const auto plan = fit_plan(test_runtime(), *table, std::vector<std::size_t>{4}, rows, {});
  REQUIRE_FALSE(plan.has_value());
  CHECK(plan.error().message.find("'c': it is always the same") != std::string::npos);
}

TEST_CASE("columns cannot have the names of outputs") {
  OnnxGraph graph("features");
  const std::vector<std::string_view> outputs = {"label", "value"};
  const auto refused = add_features(graph, {NumberFeature{.column = "value"}}, outputs);
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().message.find("'value'") != std::string::npos);
}

}  // namespace
}  // namespace mayfly
