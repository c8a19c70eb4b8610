// Gradient-boosted trees. A step is a round; a checkpoint is model and configuration, with the
// state of its random numbers, so that what goes on from one equals what was never stopped.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "core/reason.h"
#include "runner/train/trainer.h"
#include "runner/train/xgboost_library.h"
#include "runner/train/xgboost_model.h"

namespace mayfly {
namespace {

constexpr std::size_t kPieceFloats = 8 << 20;  // read at once, at most …
constexpr std::size_t kLeastPiece = 1 << 18;
constexpr std::size_t kPieceShare = 256;  // … and bytes of memory for each of them

std::string objective_of(TrainTask task) {
  switch (task) {
    case TrainTask::Binary:
      return "binary:logistic";
    case TrainTask::Multiclass:
      return "multi:softprob";
    case TrainTask::Ranking:
      return "rank:ndcg";
    case TrainTask::Regression:
    case TrainTask::Clustering:
    case TrainTask::Recommendation:
      break;
  }
  return "reg:squarederror";
}

class XgboostTrainer final : public Trainer {
 public:
  XgboostTrainer(const TrainerSetup& setup, const LearnRows& train, const LearnRows& valid,
                 XgboostMatrix matrix)
      : setup_(setup), train_(train), valid_(valid), matrix_(std::move(matrix)) {}

  static Result<std::unique_ptr<Trainer>> make(const TrainerSetup& setup, const LearnRows& train,
                                               const LearnRows& valid) {
    const XgboostLibrary& library = *TRY(XgboostLibrary::open(setup.runtime));
    XgboostMatrix matrix = TRY(make_matrix(library, setup, train));
    auto trainer = std::make_unique<XgboostTrainer>(setup, train, valid, std::move(matrix));
    TRY(trainer->open(library));
    return trainer;
  }

  std::uint32_t rounds() const override { return rounds_; }
  std::uint32_t most_rounds() const override { return setup_.params.integer("rounds"); }

  Status step() override {
    TRY(booster_->update(rounds_, matrix_));
    ++rounds_;
    return {};
  }

  Result<Scores> score_valid() override {
    if (valid_matrix_) return scores_of(TRY(booster_->predict(*valid_matrix_, 0)));
    return score(valid_.matrix.all());
  }

  Status keep_rounds(std::uint32_t rounds) override {
    kept_ = rounds;
    return booster_->set_attribute("best_iteration", fmt::format("{}", rounds - 1));
  }

  Result<Scores> score(std::span<const float> rows) override {
    const FloatRows all{rows, train_.matrix.width()};
    const std::size_t piece = piece_rows(setup_, all.width);
    std::vector<float> values;
    for (std::size_t at = 0; at < all.rows(); at += piece) {
      const FloatRows some = all.rows(at, std::min(piece, all.rows() - at));
      const std::vector<float> scored = TRY(booster_->predict(some, kept_));
      values.insert(values.end(), scored.begin(), scored.end());
    }
    return scores_of(std::move(values));
  }

  // The number of rounds, then the library's bytes.
  Result<std::string> save() override {
    std::string saved(sizeof rounds_, '\0');
    std::memcpy(saved.data(), &rounds_, sizeof rounds_);
    return saved + TRY(booster_->serialize());
  }

  Status restore(std::string_view saved) override {
    if (saved.size() <= sizeof rounds_) return fail(Code::DataLoss, "the checkpoint is cut off");
    TRY(booster_->unserialize(saved.substr(sizeof rounds_)));
    std::memcpy(&rounds_, saved.data(), sizeof rounds_);
    return booster_->set("nthread", fmt::format("{}", setup_.threads));
  }

  Result<ModelNodes> add_to(OnnxGraph& graph, const std::string& features) override {
    const std::string json = TRY(booster_->model_json());
    const XgboostModel model = TRY(parse_xgboost(json));
    XgboostOutputs outputs = TRY(add_xgboost(graph, model, features));
    return ModelNodes{.probabilities = std::move(outputs.probabilities),
                      .value = std::move(outputs.value),
                      .cluster = {},
                      .distance = {}};
  }

  Result<std::vector<double>> importance() override {
    return booster_->gains(train_.matrix.width());
  }

 private:
  static std::size_t piece_rows(const TrainerSetup& setup, std::size_t width) {
    const std::size_t floats =
        std::clamp<std::size_t>(setup.memory.count / kPieceShare, kLeastPiece, kPieceFloats);
    return std::max<std::size_t>(floats / width, 1);
  }

  static Result<XgboostMatrix> make_matrix(const XgboostLibrary& library, const TrainerSetup& setup,
                                           const LearnRows& train) {
    const std::size_t width = train.matrix.width();
    XgboostMatrix::Options options{.threads = setup.threads,
                                   .max_bin = setup.params.integer("max_bin"),
                                   .piece = piece_rows(setup, width)};
    // Histograms take a byte or two a value, gradients and positions some more a row.
    if (train.matrix.all().size_bytes() > setup.memory.count / 3)
      options.cache = (setup.scratch / "xgboost").native();
    XgboostMatrix matrix =
        TRY(XgboostMatrix::quantiles(library, {train.matrix.all(), width}, options));
    TRY(matrix.set_labels(train.labels));
    if (!train.groups.empty()) TRY(matrix.set_groups(train.groups));
    return matrix;
  }

  Status open(const XgboostLibrary& library) {
    std::vector<void*> known = {matrix_.handle()};
    const std::span<const float> held_out = valid_.matrix.all();
    // A copy of theirs takes twice the room, and spares predicting from the first tree on.
    if (!held_out.empty() && held_out.size_bytes() < setup_.memory.count / 8) {
      valid_matrix_ =
          TRY(XgboostMatrix::values(library, {held_out, valid_.matrix.width()}, setup_.threads));
      known.push_back(valid_matrix_->handle());
    }
    booster_ = TRY(XgboostBooster::create(library, known));
    return configure();
  }

  Status configure() {
    TRY(booster_->set("objective", objective_of(setup_.task)));
    if (setup_.task == TrainTask::Multiclass)
      TRY(booster_->set("num_class", fmt::format("{}", setup_.classes)));
    TRY(booster_->set("tree_method", "hist"));
    TRY(booster_->set("nthread", fmt::format("{}", setup_.threads)));
    TRY(booster_->set("seed", fmt::format("{}", setup_.seed & 0x7fff'ffff)));
    TRY(booster_->set("verbosity", "0"));
    TRY(booster_->set("disable_default_eval_metric", "1"));
    for (const char* name :
         {"eta", "min_child_weight", "gamma", "subsample", "colsample_bytree", "lambda", "alpha"})
      TRY(booster_->set(name, fmt::format("{}", setup_.params.real(name))));
    for (const char* name : {"max_depth", "max_bin"})
      TRY(booster_->set(name, fmt::format("{}", setup_.params.integer(name))));
    if (setup_.task == TrainTask::Binary)
      TRY(booster_->set("scale_pos_weight",
                        fmt::format("{}", setup_.params.real("scale_pos_weight"))));
    return {};
  }

  Result<Scores> scores_of(std::vector<float> values) const {
    if (setup_.task == TrainTask::Multiclass)
      return Scores{.width = setup_.classes, .values = std::move(values)};
    if (setup_.task != TrainTask::Binary) return Scores{.width = 1, .values = std::move(values)};
    Scores both{.width = 2, .values = {}};
    both.values.reserve(values.size() * 2);
    for (const float positive : values) {
      both.values.push_back(1 - positive);
      both.values.push_back(positive);
    }
    return both;
  }

  const TrainerSetup setup_;
  const LearnRows train_;
  const LearnRows valid_;
  XgboostMatrix matrix_;
  std::optional<XgboostMatrix> valid_matrix_;
  std::optional<XgboostBooster> booster_;
  std::uint32_t rounds_ = 0;
  std::uint32_t kept_ = 0;  // 0: all
};

}  // namespace

Result<std::unique_ptr<Trainer>> make_xgboost(const TrainerSetup& setup, const LearnRows& train,
                                              const LearnRows& valid) {
  return XgboostTrainer::make(setup, train, valid);
}

}  // namespace mayfly
