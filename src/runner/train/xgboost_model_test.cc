#include "runner/train/xgboost_model.h"

#include <fmt/format.h>

#include <cmath>
#include <string>

#include <doctest/doctest.h>

namespace mayfly {
namespace {

// One split (feature 1 below 0.5, missing goes right) and its two leaves.
std::string tree(std::string_view more = "") {
  return fmt::format(
      R"({{"left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [1, 0, 0],
          "split_conditions": [0.5, -0.25, 0.75], "default_left": [0, 0, 0]{}}})",
      more);
}

struct Saved {
  std::string objective = "binary:logistic";
  std::string base_score = "5E-1";
  std::string classes = "0";
  std::string trees = tree();
  std::string outputs = "0";
  std::string attributes = "{}";
  std::string booster = "gbtree";
};

std::string json_of(const Saved& saved) {
  return fmt::format(
      R"({{"learner": {{"attributes": {}, "objective": {{"name": "{}"}},
          "learner_model_param": {{"base_score": "{}", "num_class": "{}", "num_feature": "3", "num_target": "1"}},
          "gradient_booster": {{"name": "{}", "model": {{"trees": [{}], "tree_info": [{}],
            "gbtree_model_param": {{"num_parallel_tree": "1"}}}}}}}}}})",
      saved.attributes, saved.objective, saved.base_score, saved.classes, saved.booster,
      saved.trees, saved.outputs);
}

std::string refusal(const Saved& saved) {
  const auto parsed = parse_xgboost(json_of(saved));
  return parsed ? "taken" : parsed.error().message;
}

const onnx::AttributeProto& attribute(const onnx::NodeProto& node, std::string_view name) {
  for (const auto& found : node.attribute())
    if (found.name() == name) return found;
  FAIL("the node lacks " << name);
  return node.attribute(0);
}

onnx::ModelProto written(const OnnxGraph& graph) {
  onnx::ModelProto model;
  REQUIRE(model.ParseFromString(*graph.serialize()));
  return model;
}

TEST_CASE("base scores become margins, on each version's writing of them") {
  CHECK(parse_xgboost(json_of({.base_score = "2E-1"}))->margins.at(0) ==
        doctest::Approx(std::log(0.25)));
  CHECK(parse_xgboost(json_of({.base_score = "[2E-1]"}))->margins.at(0) ==
        doctest::Approx(std::log(0.25)));
  CHECK(
      parse_xgboost(json_of({.objective = "reg:squarederror", .base_score = "[-4E0]"}))->margins ==
      std::vector<float>{-4});
  CHECK(parse_xgboost(json_of({.objective = "count:poisson", .base_score = "1E0"}))->margins ==
        std::vector<float>{0});
  const auto three = parse_xgboost(
      json_of({.objective = "multi:softprob", .base_score = "[1E-1,-2E0,0E0]", .classes = "3"}));
  CHECK(three->margins == std::vector<float>{0.1F, -2, 0});
}

TEST_CASE("a training that was stopped early is cut to its best iteration") {
  Saved saved{.trees = tree() + "," + tree() + "," + tree(), .outputs = "0, 0, 0"};
  CHECK(parse_xgboost(json_of(saved))->trees.size() == 3);
  saved.attributes = R"({"best_iteration": "1"})";
  CHECK(parse_xgboost(json_of(saved))->trees.size() == 2);
  saved.attributes = R"({"best_iteration": "7"})";
  CHECK(parse_xgboost(json_of(saved))->trees.size() == 3);
}

TEST_CASE("a tree is written node for node") {
  OnnxGraph graph("trees");
  const auto outputs = add_xgboost(graph, *parse_xgboost(json_of({})), "x");
  REQUIRE(outputs.has_value());
  const onnx::ModelProto model = written(graph);
  const onnx::NodeProto& node = model.graph().node(0);
  CHECK(node.op_type() == "TreeEnsembleRegressor");
  CHECK(node.domain() == kOnnxMl);
  CHECK(node.input(0) == "x");
  CHECK(attribute(node, "nodes_modes").strings(0) == "BRANCH_LT");
  CHECK(attribute(node, "nodes_modes").strings(1) == "LEAF");
  CHECK(attribute(node, "nodes_featureids").ints(0) == 1);
  CHECK(attribute(node, "nodes_missing_value_tracks_true").ints(0) == 0);
  CHECK(attribute(node, "target_weights").floats(1) == 0.75F);
  CHECK(attribute(node, "target_nodeids").ints(1) == 2);
  CHECK(outputs->value.empty());
  CHECK(model.graph().node(model.graph().node_size() - 1).output(0) == outputs->probabilities);
}

TEST_CASE("each objective has its outputs") {
  const auto outputs_of = [](const Saved& saved) {
    OnnxGraph graph("trees");
    return *add_xgboost(graph, *parse_xgboost(json_of(saved)), "x");
  };
  CHECK_FALSE(outputs_of({.objective = "multi:softprob", .classes = "3"}).probabilities.empty());
  const XgboostOutputs plain = outputs_of({.objective = "reg:squarederror"});
  CHECK(plain.value == plain.margins);
  const XgboostOutputs exponential = outputs_of({.objective = "count:poisson"});
  CHECK(exponential.value != exponential.margins);
  OnnxGraph graph("trees");
  CHECK_FALSE(
      add_xgboost(graph, *parse_xgboost(json_of({.objective = "survival:cox"})), "x").has_value());
}

TEST_CASE("what has no form, or is no model, is refused with its reason") {
  CHECK(refusal({.trees = tree(R"(, "split_type": [1, 0, 0])")}).find("category") !=
        std::string::npos);
  CHECK(refusal({.booster = "dart"}).find("dart") != std::string::npos);
  CHECK(refusal({.base_score = "much"}).find("base_score") != std::string::npos);
  CHECK(refusal({.base_score = "1E0"}).find("base scores") !=
        std::string::npos);  // an infinite margin
  CHECK(refusal({.outputs = "1"}).find("class") != std::string::npos);
  CHECK(refusal({.outputs = ""}).find("count for") != std::string::npos);
  CHECK(refusal({.trees = "{}"}).find("not what XGBoost saves") != std::string::npos);
  for (const char* left : {"[0, -1, -1]", "[3, -1, -1]", "[1, -1]"}) {
    CAPTURE(left);
    std::string bad = tree();
    bad.replace(bad.find("[1, -1, -1]"), 11, left);
    CHECK(refusal({.trees = bad}).find("tree") != std::string::npos);
  }
  CHECK_FALSE(parse_xgboost("{").has_value());
  CHECK_FALSE(parse_xgboost("[1]").has_value());
}

}  // namespace
}  // namespace mayfly
