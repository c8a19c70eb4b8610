// Linear models and centroids as nodes of an ONNX graph.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "runner/train/onnx_graph.h"

namespace mayfly {

// What decision values become.
enum class Link : std::uint8_t {
  Identity,  // a value
  Logistic,  // one output: the probability of class 1, of two
  OneVsRest  // an output a class: logistic each, then divided by their sum (as LIBLINEAR does)
};

struct LinearModel {
  std::int64_t features = 0;
  std::int64_t outputs = 1;
  // Sums are made with doubles: what cancels out in them would lose too many digits else.
  std::vector<double> weights;  // [features, outputs]
  std::vector<double> biases;   // [outputs]
  Link link = Link::Identity;
};

// `features`: FLOAT[-1, model.features]. Returns FLOAT[-1, 1] for Identity, else probabilities,
// FLOAT[-1, classes]. InvalidArgument: sizes that do not fit, numbers that are none.
Result<std::string> add_linear(OnnxGraph& graph, const LinearModel& model,
                               const std::string& features);

struct Centroids {
  std::int64_t features = 0;
  std::vector<float> values;  // [clusters, features]
};

struct ClusterOutputs {
  std::string cluster;   // INT64[-1]: the nearest, the first of equals
  std::string distance;  // FLOAT[-1]: to it, Euclidean
};

Result<ClusterOutputs> add_centroids(OnnxGraph& graph, const Centroids& centroids,
                                     const std::string& features);

}  // namespace mayfly
