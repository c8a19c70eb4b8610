#include "runner/train/recommend_scoring.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "core/reason.h"
#include "runner/train/column_model.h"
#include "runner/train/interactions.h"
#include "runner/train/ranked_lists.h"
#include "runner/train/scoring.h"

namespace mayfly {
namespace {

class RecommendScoring {
 public:
  RecommendScoring(const OnnxRuntime& runtime, const ScoreJob& job, const TrainFolders& folders,
                   TrainTable table)
      : runtime_(runtime), job_(job), folders_(folders), table_(std::move(table)) {}

  Result<TrainEnd> run() {
    if (!job_.slices.empty())
      return refuse(reason::kInvalidInput, "there are no slices of recommendation");
    metric_ = TRY(list_metric(job_.metric));
    const std::vector<std::string> columns = guessed_by(job_);
    const TrainTable train_table =
        TRY(TrainTable::open(folders_.source, "train", {.only = columns}));
    const InteractionColumns places = TRY(interaction_columns(table_, job_.target, job_.group, {}));
    const Interactions train = TRY(read_interactions(train_table, places));
    Interactions held = TRY(read_interactions(table_, places));
    const std::uint64_t left_out = held.left_out;
    held_ = hold_out(std::move(held), train);
    if (held_.users.empty())
      return refuse(reason::kInvalidInput,
                    fmt::format("no user has items in the {} rows that he does not have in "
                                "training rows",
                                to_string(job_.split)));
    for (const JudgedUser& user : held_.users) rows_.push_back(user.row);
    const Path output = folders_.work / "output";
    TRY(make_directories(output));
    TRY(write_row_keys(output / "row.npy", table_, rows_));
    std::vector<double> counts;
    for (const JudgedUser& user : held_.users)
      counts.push_back(static_cast<double>(user.items.size()));
    TRY(write_numbers(output / "truth.npy", counts));
    Json result{{"split", to_string(job_.split)},
                {"task", to_string(job_.task)},
                {"metric", validation::info(metric_).name},
                {"rows", held_.users.size()},
                {"known", held_.known_users},
                {"without_target", left_out},
                {"alpha", job_.alpha},
                {"models", Json::object()},
                {"baselines", Json::object()}};
    for (const std::string& name : job_.models) {
      auto scored = score(name, output);
      if (!scored) return std::unexpected(std::move(scored).error().in(name));
      result["models"][name] = Json{{"metrics", *std::move(scored)}};
    }
    if (!train.pairs.empty())
      result["baselines"]["popular"] = Json{{"metrics", describe(popular_lists(held_, train))}};
    return TrainEnd{.how = TrainEnd::How::Finished, .result = result.dump()};
  }

 private:
  Json describe(const ItemLists& lists) const {
    return describe_lists(held_.users, lists, job_.alpha, job_.seed);
  }

  Result<Json> score(const std::string& name, const Path& output) const {
    ColumnModel model =
        TRY(ColumnModel::open(runtime_, folders_.source / "models" / fmt::format("{}.onnx", name),
                              table_, {job_.task, job_.target, job_.group, 0, job_.threads}));
    const ModelAnswer answer = TRY(model.run(table_, rows_));
    const ItemLists lists = lists_of(answer.places, answer.scores.width, held_);
    if (lists.size() != rows_.size())
      return fail(Code::Internal, "other users were scored than there are");
    const validation::ValuePredictions worth = worth_of(metric_, held_.users, lists);
    TRY(make_directories(output / name));
    TRY(write_worth(output / name, worth));
    return describe(lists);
  }

  const OnnxRuntime& runtime_;
  const ScoreJob& job_;
  const TrainFolders& folders_;
  const TrainTable table_;
  validation::Metric metric_ = validation::Metric::RecallAt10;
  HeldOut held_;
  std::vector<std::uint32_t> rows_;  // one of each user
};

}  // namespace

Result<TrainEnd> score_recommenders(const OnnxRuntime& runtime, const ScoreJob& job,
                                    const TrainFolders& folders) {
  TrainTable table = TRY(TrainTable::open(folders.source, to_string(job.split)));
  return RecommendScoring(runtime, job, folders, std::move(table)).run();
}

}  // namespace mayfly
