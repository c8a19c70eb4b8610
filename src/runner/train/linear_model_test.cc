#include "runner/train/linear_model.h"

#include <cmath>
#include <limits>

#include <doctest/doctest.h>

namespace mayfly {
namespace {

bool is_taken(const LinearModel& model) {
  OnnxGraph graph("linear");
  return add_linear(graph, model, "x").has_value();
}

TEST_CASE("weights that do not fit, or are no numbers, are refused") {
  const LinearModel good{.features = 2, .outputs = 1, .weights = {1, 2}, .biases = {0}};
  CHECK(is_taken(good));
  LinearModel bad = good;
  bad.weights.pop_back();
  CHECK_FALSE(is_taken(bad));
  bad = good;
  bad.biases = {std::numeric_limits<float>::quiet_NaN()};
  CHECK_FALSE(is_taken(bad));
  bad = good;
  bad.link = Link::OneVsRest;  // of one class
  CHECK_FALSE(is_taken(bad));
  bad = {.features = 1, .outputs = 2, .weights = {1, 2}, .biases = {0, 0}, .link = Link::Logistic};
  CHECK_FALSE(is_taken(bad));
}

TEST_CASE("centroids that do not fit are refused") {
  OnnxGraph graph("clusters");
  CHECK(add_centroids(graph, {.features = 2, .values = {0, 0, 1, 1}}, "x").has_value());
  CHECK_FALSE(add_centroids(graph, {.features = 2, .values = {0, 0, 1}}, "x").has_value());
  CHECK_FALSE(add_centroids(graph, {.features = 2, .values = {}}, "x").has_value());
  CHECK_FALSE(add_centroids(graph, {.features = 0, .values = {1}}, "x").has_value());
}

}  // namespace
}  // namespace mayfly
