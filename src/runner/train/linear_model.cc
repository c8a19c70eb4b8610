#include "runner/train/linear_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

namespace mayfly {
namespace {

constexpr std::array<std::int64_t, 1> kLastAxis = {1};

template <typename T>
bool all_finite(const std::vector<T>& values) {
  return std::ranges::all_of(values, [](T value) { return std::isfinite(value); });
}

// 1 - p beside p.
std::string two_classes(OnnxGraph& graph, const std::string& positive) {
  const float one = 1;
  const std::string negative =
      graph.add("Sub", {graph.add_floats("one", std::span(&one, 1), {}), positive});
  std::string both = graph.add("Concat", {negative, positive});
  set_attribute(graph.last(), "axis", std::int64_t{1});
  return both;
}

}  // namespace

Result<std::string> add_linear(OnnxGraph& graph, const LinearModel& model,
                               const std::string& features) {
  const bool fits = model.features > 0 && model.outputs > 0 &&
                    std::ssize(model.weights) == model.features * model.outputs &&
                    std::ssize(model.biases) == model.outputs &&
                    (model.link == Link::OneVsRest ? model.outputs > 1 : model.outputs == 1);
  if (!fits || !all_finite(model.weights) || !all_finite(model.biases))
    return fail(Code::InvalidArgument, "the linear model's weights are not what they should be");
  const std::array<std::int64_t, 2> shape = {model.features, model.outputs};
  const std::string weights = graph.add_doubles("weights", model.weights, shape);
  const std::string biases =
      graph.add_doubles("biases", model.biases, std::array<std::int64_t, 1>{model.outputs});
  const std::string wide = graph.add("Cast", {features});
  set_attribute(graph.last(), "to", std::int64_t{onnx::TensorProto::DOUBLE});
  const std::string sums = graph.add("Gemm", {wide, weights, biases});
  std::string values = graph.add("Cast", {sums});
  set_attribute(graph.last(), "to", std::int64_t{onnx::TensorProto::FLOAT});
  if (model.link == Link::Identity) return values;
  const std::string shares = graph.add("Sigmoid", {values});
  if (model.link == Link::Logistic) return two_classes(graph, shares);
  const std::string axes = graph.add_integers("axes", kLastAxis, kLastAxis);
  const std::string sum = graph.add("ReduceSum", {shares, axes});
  return graph.add("Div", {shares, sum});
}

// |x - c|² = |x|² - 2 x·c + |c|²; the nearest does not hang on |x|².
Result<ClusterOutputs> add_centroids(OnnxGraph& graph, const Centroids& centroids,
                                     const std::string& features) {
  const std::int64_t clusters =
      centroids.features > 0 ? std::ssize(centroids.values) / centroids.features : 0;
  if (clusters == 0 || clusters * centroids.features != std::ssize(centroids.values) ||
      !all_finite(centroids.values))
    return fail(Code::InvalidArgument, "the centroids are not what they should be");
  std::vector<float> squares;
  for (std::int64_t i = 0; i < clusters; ++i) {
    double sum = 0;
    for (std::int64_t f = 0; f < centroids.features; ++f) {
      const double value = centroids.values[static_cast<std::size_t>(i * centroids.features + f)];
      sum += value * value;
    }
    squares.push_back(static_cast<float>(sum));
  }
  const std::array<std::int64_t, 2> shape = {clusters, centroids.features};
  const std::string matrix = graph.add_floats("centroids", centroids.values, shape);
  const std::string norms =
      graph.add_floats("norms", squares, std::array<std::int64_t, 1>{clusters});
  const std::string relative = graph.add("Gemm", {features, matrix, norms});
  set_attribute(graph.last(), "alpha", -2.0F);
  set_attribute(graph.last(), "transB", std::int64_t{1});
  ClusterOutputs outputs{.cluster = graph.add("ArgMin", {relative}), .distance = {}};
  set_attribute(graph.last(), "axis", std::int64_t{1});
  set_attribute(graph.last(), "keepdims", std::int64_t{0});
  // The distance from the difference itself: what is near loses no digits to cancellation.
  const std::string nearest = graph.add("Gather", {matrix, outputs.cluster});
  set_attribute(graph.last(), "axis", std::int64_t{0});
  const std::string difference = graph.add("Sub", {features, nearest});
  outputs.distance =
      graph.add("ReduceL2", {difference, graph.add_integers("axes", kLastAxis, kLastAxis)});
  set_attribute(graph.last(), "keepdims", std::int64_t{0});
  return outputs;
}

}  // namespace mayfly
