// A model of XGBoost, read from the JSON that the library saves (XGBoosterSaveModelToBuffer with
// "format": "json"), and written as nodes of an ONNX graph.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runner/train/onnx_graph.h"

namespace mayfly {

struct XgboostTree {
  // By node; of a leaf `left` is -1 and `value` its weight, else a row goes left when its feature
  // is less than `value`, or missing and `missing_left`.
  std::vector<std::int64_t> left;
  std::vector<std::int64_t> right;
  std::vector<std::int64_t> feature;
  std::vector<float> value;
  std::vector<std::uint8_t> missing_left;
  std::int64_t output = 0;  // the class that its leaves count for
};

struct XgboostModel {
  std::string objective;  // "binary:logistic"
  std::int64_t outputs = 1;
  std::int64_t features = 0;
  std::vector<float> margins;  // by output: what the trees are added to
  std::vector<XgboostTree> trees;
};

// What was stopped early is cut to its best iteration. InvalidArgument: no such JSON, or what has
// no form in ONNX here: splits by category, vector leaves, dart, gblinear.
Result<XgboostModel> parse_xgboost(std::string_view json);

struct XgboostOutputs {
  std::string margins;        // FLOAT[-1, outputs]
  std::string probabilities;  // of classifiers: FLOAT[-1, classes], two for binary ones; else empty
  std::string value;          // of the others: FLOAT[-1, 1]; else empty
};

// `features`: FLOAT[-1, model.features], NaN where missing.
Result<XgboostOutputs> add_xgboost(OnnxGraph& graph, const XgboostModel& model,
                                   const std::string& features);

}  // namespace mayfly
