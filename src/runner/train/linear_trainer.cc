// Logistic regression, one against the rest, and ridge regression, by LIBLINEAR's Newton methods
// with trust regions (solvers 0 and 11). A fit cannot be interrupted: it is one step.
#include <fmt/format.h>
#include <linear.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "core/reason.h"
#include "core/units.h"
#include "runner/train/linear_model.h"
#include "runner/train/trainer.h"

namespace mayfly {
namespace {

struct FreeModel {
  void operator()(model* some) const { free_and_destroy_model(&some); }
};
using LiblinearModel = std::unique_ptr<model, FreeModel>;

// Its rows: what is not 0, by number from 1; then the bias, whose number is the last; then -1.
std::size_t append_row(std::span<const float> values, std::vector<feature_node>& to) {
  const std::size_t before = to.size();
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i] != 0) to.push_back({static_cast<int>(i + 1), static_cast<double>(values[i])});
  to.push_back({static_cast<int>(values.size() + 1), 1.0});
  to.push_back({-1, 0.0});
  return before;
}

// What is kept of a fit: a weight for each output and feature, the bias last.
struct Weights {
  std::uint32_t outputs = 0;
  std::vector<double> values;  // [outputs, features + 1]
};

class LinearTrainer final : public Trainer {
 public:
  LinearTrainer(const TrainerSetup& setup, const LearnRows& train, const LearnRows& valid)
      : setup_(setup), train_(train), valid_(valid) {}

  std::uint32_t rounds() const override { return weights_.outputs == 0 ? 0 : 1; }
  std::uint32_t most_rounds() const override { return 1; }

  Status step() override {
    std::vector<feature_node> nodes;
    std::vector<feature_node*> rows;
    TRY(lay_out(nodes, rows));
    std::vector<double> targets(train_.labels.begin(), train_.labels.end());
    const Scale scale = setup_.task == TrainTask::Regression ? standardise(targets) : Scale();
    problem some{.l = static_cast<int>(rows.size()),
                 .n = static_cast<int>(train_.matrix.width() + 1),
                 .y = targets.data(),
                 .x = rows.data(),
                 .bias = 1};
    parameter how{};
    how.solver_type = setup_.task == TrainTask::Regression ? L2R_L2LOSS_SVR : L2R_LR;
    how.C = setup_.params.real("c");
    how.eps = setup_.params.real("tolerance");
    how.p = setup_.params.real("epsilon");
    if (const char* complaint = check_parameter(&some, &how))
      return refuse(reason::kInvalidInput, fmt::format("LIBLINEAR: {}", complaint));
    set_print_string_function([](const char*) {});
    const LiblinearModel fitted(::train(&some, &how));
    return take(*fitted, scale);
  }

  Result<Scores> score_valid() override { return score(valid_.matrix.all()); }
  Status keep_rounds(std::uint32_t) override { return {}; }

  Result<Scores> score(std::span<const float> rows) override {
    const std::size_t width = train_.matrix.width();
    Scores scores{.width = setup_.task == TrainTask::Regression ? 1 : setup_.classes, .values = {}};
    std::vector<feature_node> nodes;
    for (std::size_t at = 0; at + width <= rows.size(); at += width) {
      nodes.clear();
      append_row(rows.subspan(at, width), nodes);
      score_row(nodes, scores.values);
    }
    return scores;
  }

  // The number of outputs, then the weights.
  Result<std::string> save() override {
    std::string saved(sizeof weights_.outputs + weights_.values.size() * sizeof(double), '\0');
    std::memcpy(saved.data(), &weights_.outputs, sizeof weights_.outputs);
    std::memcpy(saved.data() + sizeof weights_.outputs, weights_.values.data(),
                weights_.values.size() * sizeof(double));
    return saved;
  }

  Status restore(std::string_view saved) override {
    Weights weights;
    const std::size_t bytes = saved.size() - std::min(saved.size(), sizeof weights.outputs);
    if (bytes != outputs() * (train_.matrix.width() + 1) * sizeof(double))
      return fail(Code::DataLoss, "the checkpoint is of other rows");
    std::memcpy(&weights.outputs, saved.data(), sizeof weights.outputs);
    if (weights.outputs != outputs()) return fail(Code::DataLoss, "the checkpoint is of no model");
    weights.values.resize(bytes / sizeof(double));
    std::memcpy(weights.values.data(), saved.data() + sizeof weights.outputs, bytes);
    weights_ = std::move(weights);
    return {};
  }

  Result<ModelNodes> add_to(OnnxGraph& graph, const std::string& features) override {
    const std::size_t width = train_.matrix.width();
    LinearModel model{.features = static_cast<std::int64_t>(width),
                      .outputs = weights_.outputs,
                      .weights = std::vector<double>(width * weights_.outputs),
                      .biases = {},
                      .link = link()};
    for (std::size_t output = 0; output < weights_.outputs; ++output) {
      const double* row = weights_.values.data() + output * (width + 1);
      for (std::size_t i = 0; i < width; ++i) model.weights[i * weights_.outputs + output] = row[i];
      model.biases.push_back(row[width]);
    }
    std::string output = TRY(add_linear(graph, model, features));
    if (setup_.task == TrainTask::Regression)
      return ModelNodes{
          .probabilities = {}, .value = std::move(output), .cluster = {}, .distance = {}};
    return ModelNodes{
        .probabilities = std::move(output), .value = {}, .cluster = {}, .distance = {}};
  }

  // The mean of the outputs' absolute weights.
  Result<std::vector<double>> importance() override {
    const std::size_t width = train_.matrix.width();
    std::vector<double> found(width, 0);
    for (std::size_t output = 0; output < weights_.outputs; ++output)
      for (std::size_t i = 0; i < width; ++i)
        found[i] += std::abs(weights_.values[output * (width + 1) + i]) / weights_.outputs;
    return found;
  }

 private:
  struct Scale {
    double mean = 0;
    double deviation = 1;
  };

  std::uint32_t outputs() const {
    return setup_.task == TrainTask::Multiclass ? setup_.classes : 1;
  }

  Link link() const {
    if (setup_.task == TrainTask::Regression) return Link::Identity;
    return setup_.task == TrainTask::Binary ? Link::Logistic : Link::OneVsRest;
  }

  // The cost of errors means the same whatever the target is counted in.
  static Scale standardise(std::vector<double>& targets) {
    Scale scale;
    double sum = 0;
    for (const double target : targets) sum += target;
    scale.mean = sum / static_cast<double>(targets.size());
    double squares = 0;
    for (const double target : targets) squares += (target - scale.mean) * (target - scale.mean);
    scale.deviation = std::sqrt(squares / static_cast<double>(targets.size()));
    if (!(scale.deviation > 0)) scale.deviation = 1;
    for (double& target : targets) target = (target - scale.mean) / scale.deviation;
    return scale;
  }

  Status lay_out(std::vector<feature_node>& nodes, std::vector<feature_node*>& rows) const {
    const Matrix& matrix = train_.matrix;
    const auto filled = static_cast<std::size_t>(
        std::ranges::count_if(matrix.all(), [](float value) { return value != 0; }));
    const std::size_t count = filled + 2 * matrix.rows();
    if (Bytes need{count * sizeof(feature_node)}; need.count > setup_.memory.count / 2) {
      return refuse(reason::kTooLarge,
                    fmt::format("linear keeps its rows in memory, {} of them here, which is more "
                                "than half of memory = {}: give it more, or train xgboost",
                                to_string(need), to_string(setup_.memory)));
    }
    nodes.reserve(count);
    std::vector<std::size_t> starts;
    for (std::size_t row = 0; row < matrix.rows(); ++row)
      starts.push_back(append_row(matrix.rows(row, 1), nodes));
    for (const std::size_t start : starts) rows.push_back(nodes.data() + start);
    return {};
  }

  Status take(const model& fitted, const Scale& scale) {
    Weights weights{.outputs = outputs(), .values = {}};
    weights.values.resize(weights.outputs * (train_.matrix.width() + 1));
    if (setup_.task == TrainTask::Regression) {
      take_values(fitted, scale, weights.values);
    } else {
      if (fitted.nr_class < 2)
        return refuse(reason::kInvalidInput, "the training rows are all of one class");
      take_classes(fitted, weights);
    }
    if (!std::ranges::all_of(weights.values, [](double w) { return std::isfinite(w); }))
      return refuse(reason::kInvalidInput, "LIBLINEAR found no weights that are numbers");
    weights_ = std::move(weights);
    return {};
  }

  static void take_values(const model& fitted, const Scale& scale, std::span<double> row) {
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = fitted.w[i] * scale.deviation;
    row.back() += scale.mean;
  }

  // Its classes are in the order in which it met them; of two it has one row of weights, for the
  // first that it met. A class that no row has keeps a probability of about nothing.
  void take_classes(const model& fitted, Weights& weights) const {
    constexpr double kNever = -40;
    const bool binary = setup_.task == TrainTask::Binary;
    const std::size_t width = train_.matrix.width() + 1;
    const auto row_of = [&](std::size_t output) {
      return std::span(weights.values).subspan(output * width, width);
    };
    for (std::size_t output = 0; output < weights.outputs; ++output) row_of(output).back() = kNever;
    const auto columns = static_cast<std::size_t>(fitted.nr_class == 2 ? 1 : fitted.nr_class);
    for (std::size_t met = 0; met < static_cast<std::size_t>(fitted.nr_class); ++met) {
      const auto label = static_cast<std::size_t>(fitted.label[met]);
      if (binary && label == 0) continue;
      const double sign = met < columns ? 1 : -1;
      const std::size_t column = met < columns ? met : 0;
      const auto row = row_of(binary ? 0 : label);
      for (std::size_t i = 0; i < width; ++i) row[i] = sign * fitted.w[i * columns + column];
    }
  }

  // By LIBLINEAR itself, one row of weights at a time: its models of several classes are of those
  // that it met.
  void score_row(const std::vector<feature_node>& nodes, std::vector<float>& to) {
    const std::size_t width = train_.matrix.width() + 1;
    std::vector<double> decisions;
    for (std::size_t output = 0; output < weights_.outputs; ++output) {
      model one{};
      one.param.solver_type = L2R_L2LOSS_SVR;
      one.nr_class = 2;
      one.nr_feature = static_cast<int>(width - 1);
      one.bias = 1;
      one.w = weights_.values.data() + output * width;
      double decision = 0;
      predict_values(&one, nodes.data(), &decision);
      decisions.push_back(decision);
    }
    if (setup_.task == TrainTask::Regression) {
      to.push_back(static_cast<float>(decisions[0]));
      return;
    }
    double sum = 0;
    for (double& decision : decisions) sum += decision = 1 / (1 + std::exp(-decision));
    if (setup_.task == TrainTask::Binary) {
      to.push_back(static_cast<float>(1 - decisions[0]));
      to.push_back(static_cast<float>(decisions[0]));
      return;
    }
    for (const double share : decisions) to.push_back(static_cast<float>(share / sum));
  }

  const TrainerSetup setup_;
  const LearnRows train_;
  const LearnRows valid_;
  Weights weights_;
};

}  // namespace

Result<std::unique_ptr<Trainer>> make_linear(const TrainerSetup& setup, const LearnRows& train,
                                             const LearnRows& valid) {
  return std::make_unique<LinearTrainer>(setup, train, valid);
}

}  // namespace mayfly
