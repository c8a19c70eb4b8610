#include "runner/train/xgboost_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

namespace mayfly {
namespace {

using ModelJson = nlohmann::json;

constexpr std::int64_t kMostOutputs = 100'000;

std::unexpected<Error> unknown(std::string_view what) {
  return fail(Code::InvalidArgument, fmt::format("the XGBoost model {}", what));
}

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Numbers of models are texts. Until 3.0 the base score is one number, later a list in a text.
std::int64_t integer_at(const ModelJson& json, const char* key) {
  return parse_number<std::int64_t>(json.at(key).get_ref<const std::string&>()).value_or(0);
}

Result<std::vector<float>> base_scores(const ModelJson& parameters) {
  std::string_view text = parameters.at("base_score").get_ref<const std::string&>();
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  std::vector<float> scores;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    const auto score = parse_number<float>(text.substr(0, comma));
    if (!score) return unknown("has a base_score that is no number");
    scores.push_back(*score);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  if (scores.empty()) return unknown("has no base_score");
  return scores;
}

bool is_log_linked(std::string_view objective) {
  return objective == "count:poisson" || objective == "reg:gamma" || objective == "reg:tweedie";
}

bool is_logistic(std::string_view objective) {
  return objective == "binary:logistic" || objective == "reg:logistic";
}

// Base scores are kept on the scale of predictions, trees add up on the scale of margins.
float margin_of(std::string_view objective, float score) {
  if (is_logistic(objective)) return std::log(score / (1 - score));
  if (is_log_linked(objective)) return std::log(score);
  return score;
}

Result<XgboostTree> parse_tree(const ModelJson& json, std::int64_t output, std::int64_t features) {
  XgboostTree tree{.left = json.at("left_children").get<std::vector<std::int64_t>>(),
                   .right = json.at("right_children").get<std::vector<std::int64_t>>(),
                   .feature = json.at("split_indices").get<std::vector<std::int64_t>>(),
                   .value = json.at("split_conditions").get<std::vector<float>>(),
                   .missing_left = json.at("default_left").get<std::vector<std::uint8_t>>(),
                   .output = output};
  const auto nodes = static_cast<std::int64_t>(tree.left.size());
  for (const std::size_t size :
       {tree.right.size(), tree.feature.size(), tree.value.size(), tree.missing_left.size()}) {
    if (nodes == 0 || static_cast<std::int64_t>(size) != nodes)
      return unknown("has a tree whose lists differ in length");
  }
  const auto split_type = json.value("split_type", std::vector<int>());
  if (std::ranges::any_of(split_type, [](int type) { return type != 0; }))
    return unknown("splits by category, which has no form here: encode categories before it");
  for (std::size_t node = 0; node < tree.left.size(); ++node) {
    const auto self = static_cast<std::int64_t>(node);
    if (tree.left[node] == -1) continue;
    // Children come after their parents, so that there are no circles.
    if (tree.left[node] <= self || tree.left[node] >= nodes || tree.right[node] <= self ||
        tree.right[node] >= nodes || tree.feature[node] < 0 || tree.feature[node] >= features)
      return unknown("has a tree with a node that leads nowhere");
  }
  return tree;
}

// How many trees count: those up to the best iteration of a training that was stopped early.
std::size_t trees_that_count(const ModelJson& learner, const ModelJson& forest,
                             std::int64_t outputs) {
  const std::size_t all = forest.at("trees").size();
  const auto attributes = learner.value("attributes", ModelJson::object());
  if (!attributes.contains("best_iteration")) return all;
  const auto best =
      parse_number<std::uint64_t>(attributes.at("best_iteration").get_ref<const std::string&>());
  if (!best) return all;
  const auto parallel =
      std::max<std::int64_t>(1, integer_at(forest.at("gbtree_model_param"), "num_parallel_tree"));
  const auto each = static_cast<std::size_t>(outputs * parallel);
  return *best < all / each ? (*best + 1) * each : all;
}

Result<XgboostModel> read(const ModelJson& json) {
  const ModelJson& learner = json.at("learner");
  const ModelJson& parameters = learner.at("learner_model_param");
  const ModelJson& booster = learner.at("gradient_booster");
  const auto& kind = booster.at("name").get_ref<const std::string&>();
  if (kind != "gbtree")
    return unknown(fmt::format("is a {}, only trees (gbtree) can be exported", kind));
  XgboostModel model{.objective = learner.at("objective").at("name").get<std::string>(),
                     .outputs = std::max<std::int64_t>(1, integer_at(parameters, "num_class")),
                     .features = integer_at(parameters, "num_feature"),
                     .margins = {},
                     .trees = {}};
  if (model.outputs > kMostOutputs || model.features < 1 ||
      integer_at(parameters, "num_target") > 1)
    return unknown("has outputs or features that cannot be exported");
  model.margins = TRY(base_scores(parameters));
  for (float& score : model.margins) score = margin_of(model.objective, score);
  if (model.margins.size() == 1)
    model.margins.resize(static_cast<std::size_t>(model.outputs), model.margins.front());
  if (static_cast<std::int64_t>(model.margins.size()) != model.outputs ||
      !std::ranges::all_of(model.margins, [](float margin) { return std::isfinite(margin); }))
    return unknown("has base scores that do not fit its outputs");
  const ModelJson& forest = booster.at("model");
  const ModelJson& trees = forest.at("trees");
  const auto outputs = forest.at("tree_info").get<std::vector<std::int64_t>>();
  const std::size_t count = trees_that_count(learner, forest, model.outputs);
  if (outputs.size() < count) return unknown("does not say what its trees count for");
  for (std::size_t i = 0; i < count; ++i) {
    if (outputs[i] < 0 || outputs[i] >= model.outputs)
      return unknown("has a tree for a class that does not exist");
    model.trees.push_back(TRY(parse_tree(trees[i], outputs[i], model.features)));
  }
  return model;
}

// The lists of TreeEnsembleRegressor.
struct Ensemble {
  std::vector<std::int64_t> trees, nodes, features, yes, no, missing_yes;
  std::vector<float> values;
  std::vector<std::string> modes;
  std::vector<std::int64_t> leaf_trees, leaf_nodes, leaf_outputs;
  std::vector<float> leaf_weights;
};

void append(Ensemble& to, const XgboostTree& tree, std::int64_t number) {
  for (std::size_t node = 0; node < tree.left.size(); ++node) {
    const auto self = static_cast<std::int64_t>(node);
    const bool leaf = tree.left[node] == -1;
    to.trees.push_back(number);
    to.nodes.push_back(self);
    to.features.push_back(leaf ? 0 : tree.feature[node]);
    to.values.push_back(leaf ? 0 : tree.value[node]);
    to.modes.emplace_back(leaf ? "LEAF" : "BRANCH_LT");
    to.yes.push_back(leaf ? 0 : tree.left[node]);
    to.no.push_back(leaf ? 0 : tree.right[node]);
    to.missing_yes.push_back(leaf ? 0 : tree.missing_left[node]);
    if (!leaf) continue;
    to.leaf_trees.push_back(number);
    to.leaf_nodes.push_back(self);
    to.leaf_outputs.push_back(tree.output);
    to.leaf_weights.push_back(tree.value[node]);
  }
}

std::string add_ensemble(OnnxGraph& graph, const XgboostModel& model, const std::string& features) {
  Ensemble all;
  for (std::size_t i = 0; i < model.trees.size(); ++i)
    append(all, model.trees[i], static_cast<std::int64_t>(i));
  std::string margins = graph.add("TreeEnsembleRegressor", {features}, kOnnxMl);
  onnx::NodeProto& node = graph.last();
  set_attribute(node, "n_targets", model.outputs);
  set_attribute(node, "aggregate_function", std::string_view("SUM"));
  set_attribute(node, "post_transform", std::string_view("NONE"));
  set_attribute(node, "base_values", std::span<const float>(model.margins));
  set_attribute(node, "nodes_treeids", std::span<const std::int64_t>(all.trees));
  set_attribute(node, "nodes_nodeids", std::span<const std::int64_t>(all.nodes));
  set_attribute(node, "nodes_featureids", std::span<const std::int64_t>(all.features));
  set_attribute(node, "nodes_values", std::span<const float>(all.values));
  set_attribute(node, "nodes_modes", std::span<const std::string>(all.modes));
  set_attribute(node, "nodes_truenodeids", std::span<const std::int64_t>(all.yes));
  set_attribute(node, "nodes_falsenodeids", std::span<const std::int64_t>(all.no));
  set_attribute(node, "nodes_missing_value_tracks_true",
                std::span<const std::int64_t>(all.missing_yes));
  set_attribute(node, "target_treeids", std::span<const std::int64_t>(all.leaf_trees));
  set_attribute(node, "target_nodeids", std::span<const std::int64_t>(all.leaf_nodes));
  set_attribute(node, "target_ids", std::span<const std::int64_t>(all.leaf_outputs));
  set_attribute(node, "target_weights", std::span<const float>(all.leaf_weights));
  return margins;
}

}  // namespace

Result<XgboostModel> parse_xgboost(std::string_view json) {
  try {
    return read(ModelJson::parse(json));
  } catch (const ModelJson::exception& problem) {
    return unknown(fmt::format("is not what XGBoost saves: {}", problem.what()));
  }
}

Result<XgboostOutputs> add_xgboost(OnnxGraph& graph, const XgboostModel& model,
                                   const std::string& features) {
  if (model.trees.empty()) return unknown("has no trees");
  XgboostOutputs outputs{
      .margins = add_ensemble(graph, model, features), .probabilities = {}, .value = {}};
  const std::string_view objective = model.objective;
  if (objective == "multi:softprob" || objective == "multi:softmax") {
    outputs.probabilities = graph.add("Softmax", {outputs.margins});
    set_attribute(graph.last(), "axis", std::int64_t{1});
  } else if (objective == "binary:logistic") {
    const std::string positive = graph.add("Sigmoid", {outputs.margins});
    const float one = 1;
    const std::string negative =
        graph.add("Sub", {graph.add_floats("one", std::span(&one, 1), {}), positive});
    outputs.probabilities = graph.add("Concat", {negative, positive});
    set_attribute(graph.last(), "axis", std::int64_t{1});
  } else if (objective == "reg:logistic") {
    outputs.value = graph.add("Sigmoid", {outputs.margins});
  } else if (is_log_linked(objective)) {
    outputs.value = graph.add("Exp", {outputs.margins});
  } else if (objective.starts_with("reg:") || objective.starts_with("rank:")) {
    outputs.value = outputs.margins;
  } else {
    return unknown(fmt::format("has the objective {}, which has no form here", objective));
  }
  return outputs;
}

}  // namespace mayfly
