// Gradient-boosted trees. A step is a round; a checkpoint is model and configuration, with the
// state of its random numbers, so that what goes on from one equals what was never stopped. Several
// workers hold a part of the rows each and make the same trees, from histograms that they add up
// over the loopback of their jail.
#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "core/reason.h"
#include "runner/train/trainer.h"
#include "runner/train/xgboost_library.h"
#include "runner/train/xgboost_model.h"
#include "runner/train/xgboost_part.h"
#include "runner/train/xgboost_workers.h"

namespace mayfly {
namespace {

// Of a worker beside the first. What it holds is made when it joins.
class OtherWorker {
 public:
  OtherWorker(const TrainerSetup& setup, const LearnRows& train, std::uint32_t rank,
              const RowPart& rows)
      : setup_(setup), train_(train), rank_(rank), rows_(rows) {}

  Status join(std::string_view tracker) {
    const XgboostLibrary& library = *TRY(XgboostLibrary::open(setup_.runtime));
    member_.emplace(TRY(XgboostMembership::join(library, tracker, rank_)));
    part_.emplace(TRY(XgboostPart::make(library, setup_, train_, rows_, nullptr)));
    return {};
  }
  Status restore(std::string_view saved) { return part_->restore(saved); }
  Status step(std::uint32_t round) { return part_->step(round); }

 private:
  const TrainerSetup& setup_;
  const LearnRows& train_;
  std::uint32_t rank_;
  RowPart rows_;
  std::optional<XgboostMembership> member_;
  std::optional<XgboostPart> part_;
};

class XgboostTrainer final : public Trainer {
 public:
  XgboostTrainer(const TrainerSetup& setup, const LearnRows& train, const LearnRows& valid)
      : setup_(setup), train_(train), valid_(valid) {}
  XgboostTrainer(const XgboostTrainer&) = delete;
  XgboostTrainer& operator=(const XgboostTrainer&) = delete;

  // The others leave as this one does: leaving waits for all.
  ~XgboostTrainer() override {
    if (!workers_) return;
    if (at_work_) give_up();
    workers_->dismiss();
  }

  static Result<std::unique_ptr<Trainer>> make(const TrainerSetup& setup, const LearnRows& train,
                                               const LearnRows& valid) {
    auto trainer = std::make_unique<XgboostTrainer>(setup, train, valid);
    TRY(trainer->together([&] { return trainer->begin(); }));
    return trainer;
  }

  std::uint32_t rounds() const override { return rounds_; }
  std::uint32_t most_rounds() const override { return setup_.params.integer("rounds"); }

  Status step() override {
    TRY(together([this] -> Status {
      if (workers_) TRY(workers_->step(rounds_));
      return part_->step(rounds_);
    }));
    ++rounds_;
    return {};
  }

  Result<Scores> score_valid() override {
    if (valid_matrix_ && kept_ == 0)
      return scores_of(TRY(part_->booster().predict(*valid_matrix_, 0)));
    return score(valid_.matrix.all());
  }

  Status keep_rounds(std::uint32_t rounds) override {
    kept_ = rounds;
    return part_->booster().set_attribute("best_iteration", std::to_string(rounds - 1));
  }

  Result<Scores> score(std::span<const float> rows) override {
    const FloatRows all{rows, train_.matrix.width()};
    const std::size_t piece = piece_rows(setup_, all.width);
    std::vector<float> values;
    for (std::size_t at = 0; at < all.rows(); at += piece) {
      const FloatRows some = all.rows(at, std::min(piece, all.rows() - at));
      const std::vector<float> scored = TRY(part_->booster().predict(some, kept_));
      values.insert(values.end(), scored.begin(), scored.end());
    }
    return scores_of(std::move(values));
  }

  // The number of rounds, then the library's bytes.
  Result<std::string> save() override {
    std::string saved(sizeof rounds_, '\0');
    std::memcpy(saved.data(), &rounds_, sizeof rounds_);
    return saved + TRY(part_->booster().serialize());
  }

  Status restore(std::string_view saved) override {
    if (saved.size() <= sizeof rounds_) return fail(Code::DataLoss, "the checkpoint is cut off");
    const std::string_view bytes = saved.substr(sizeof rounds_);
    TRY(together([&] -> Status {
      if (workers_) TRY(workers_->restore(bytes));
      return part_->restore(bytes);
    }));
    std::memcpy(&rounds_, saved.data(), sizeof rounds_);
    return {};
  }

  Result<ModelNodes> add_to(OnnxGraph& graph, const std::string& features) override {
    const std::string json = TRY(part_->booster().model_json());
    const XgboostModel model = TRY(parse_xgboost(json));
    XgboostOutputs outputs = TRY(add_xgboost(graph, model, features));
    return ModelNodes{.probabilities = std::move(outputs.probabilities),
                      .value = std::move(outputs.value),
                      .cluster = {},
                      .distance = {}};
  }

  Result<std::vector<double>> importance() override {
    return part_->booster().gains(train_.matrix.width());
  }

 private:
  Status begin() {
    const std::vector<RowPart> parts =
        TRY(divide_rows(train_.labels.size(), train_.groups, setup_.workers));
    const XgboostLibrary& library = *TRY(XgboostLibrary::open(setup_.runtime));
    // Before the library has threads, which no other worker would have.
    if (setup_.workers > 1) TRY(fork_workers(parts));
    // Those that are held out are this worker's alone: their matrix is made before it joins.
    TRY(make_valid_matrix(library));
    if (workers_) TRY(join(library));
    part_.emplace(TRY(XgboostPart::make(library, setup_, train_, parts[0],
                                        valid_matrix_ ? &*valid_matrix_ : nullptr)));
    return {};
  }

  Status make_valid_matrix(const XgboostLibrary& library) {
    const std::span<const float> held_out = valid_.matrix.all();
    // A copy of theirs takes twice the room, and spares predicting from the first tree on.
    if (held_out.empty() || held_out.size_bytes() >= setup_.memory.count / 8) return {};
    valid_matrix_.emplace(
        TRY(XgboostMatrix::values(library, {held_out, valid_.matrix.width()}, setup_.threads)));
    return {};
  }

  Status fork_workers(const std::vector<RowPart>& parts) {
    workers_.emplace(TRY(XgboostWorkers::fork(setup_.workers, [&](std::uint32_t rank) {
      const auto worker = std::make_shared<OtherWorker>(setup_, train_, rank, parts[rank]);
      return WorkerDuties{
          .join = [worker](std::string_view tracker) { return worker->join(tracker); },
          .restore = [worker](std::string_view saved) { return worker->restore(saved); },
          .step = [worker](std::uint32_t round) { return worker->step(round); }};
    })));
    return {};
  }

  Status join(const XgboostLibrary& library) {
    tracker_.emplace(TRY(XgboostTracker::start(library, setup_.workers)));
    TRY(workers_->join(tracker_->arguments()));
    member_.emplace(TRY(XgboostMembership::join(library, tracker_->arguments(), 0)));
    return {};
  }

  // What all do: where it fails for one, or throws, nobody waits for the others any more.
  template <typename Work>
  Status together(Work work) {
    at_work_ = true;
    Status done = work();
    at_work_ = false;
    if (done || !workers_) return done;
    Error why = workers_->cause_of(std::move(done).error());
    give_up();
    return std::unexpected(std::move(why));
  }

  void give_up() {
    workers_->kill();
    if (member_) member_->abandon();
    if (tracker_) tracker_->abandon();
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
  // Destroyed from the last to the first: this worker leaves, then waits for those that left.
  std::optional<XgboostTracker> tracker_;
  std::optional<XgboostWorkers> workers_;
  std::optional<XgboostMembership> member_;
  std::optional<XgboostMatrix> valid_matrix_;
  std::optional<XgboostPart> part_;
  bool at_work_ = false;  // with the others
  std::uint32_t rounds_ = 0;
  std::uint32_t kept_ = 0;  // 0: all
};

}  // namespace

Result<std::unique_ptr<Trainer>> make_xgboost(const TrainerSetup& setup, const LearnRows& train,
                                              const LearnRows& valid) {
  return XgboostTrainer::make(setup, train, valid);
}

}  // namespace mayfly
