#include "runner/train/trained_model.h"

#include <array>

namespace mayfly {
namespace {

constexpr std::array<std::string_view, 5> kOutputNames = {"label", "probabilities", "value",
                                                          "cluster", "distance"};
constexpr std::array<std::int64_t, 1> kPerRow = {-1};

class ModelBuilder {
 public:
  explicit ModelBuilder(const ClassNames& classes) : graph_("model"), classes_(classes) {}

  Status build(const std::vector<Feature>& features, Trainer& trainer) {
    const FeatureMatrix matrix = TRY(add_features(graph_, features, kOutputNames));
    const ModelNodes nodes = TRY(trainer.add_to(graph_, matrix.name));
    if (!nodes.probabilities.empty()) {
      add_label(nodes.probabilities);
      const std::array<std::int64_t, 2> shape = {-1, static_cast<std::int64_t>(classes_.size())};
      add_output(nodes.probabilities, "probabilities", onnx::TensorProto::FLOAT, shape);
    }
    if (!nodes.value.empty()) {
      const std::string flat = graph_.add(
          "Reshape",
          {nodes.value, graph_.add_integers("row", kPerRow, std::array<std::int64_t, 1>{1})});
      add_output(flat, "value", onnx::TensorProto::FLOAT, kPerRow);
    }
    if (!nodes.cluster.empty())
      add_output(nodes.cluster, "cluster", onnx::TensorProto::INT64, kPerRow);
    if (!nodes.distance.empty())
      add_output(nodes.distance, "distance", onnx::TensorProto::FLOAT, kPerRow);
    return {};
  }

  Result<TrainedModel> finish() {
    std::string onnx = TRY(graph_.serialize());
    return TrainedModel{.onnx = std::move(onnx), .outputs = std::move(outputs_)};
  }

 private:
  void add_output(const std::string& node, const std::string& name,
                  onnx::TensorProto::DataType type, std::span<const std::int64_t> shape) {
    graph_.add("Identity", {node}, "", name);
    graph_.add_output(name, type, shape);
    outputs_.push_back(name);
  }

  // The likeliest class by its name; the first of equals.
  void add_label(const std::string& probabilities) {
    const std::string place = graph_.add("ArgMax", {probabilities});
    set_attribute(graph_.last(), "axis", std::int64_t{1});
    set_attribute(graph_.last(), "keepdims", std::int64_t{0});
    const std::array<std::int64_t, 1> shape = {static_cast<std::int64_t>(classes_.size())};
    const auto* numbers = std::get_if<std::vector<std::int64_t>>(&classes_.names);
    const std::string names =
        numbers != nullptr
            ? graph_.add_integers("classes", *numbers, shape)
            : graph_.add_texts("classes", std::get<std::vector<std::string>>(classes_.names),
                               shape);
    const std::string label = graph_.add("Gather", {names, place});
    add_output(label, "label",
               numbers != nullptr ? onnx::TensorProto::INT64 : onnx::TensorProto::STRING, kPerRow);
  }

  OnnxGraph graph_;
  const ClassNames& classes_;
  std::vector<std::string> outputs_;
};

}  // namespace

Result<TrainedModel> make_model(const std::vector<Feature>& features, const ClassNames& classes,
                                Trainer& trainer) {
  ModelBuilder builder(classes);
  TRY(builder.build(features, trainer));
  return builder.finish();
}

}  // namespace mayfly
