#include "runner/train/recommend_training.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/reason.h"
#include "runner/train/recommend_model.h"
#include "runner/train/recommend_parity.h"
#include "runner/train/scoring.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostSampled = 5000;  // users, by whom a round is judged

}  // namespace

Result<std::unique_ptr<RecommendTraining>> RecommendTraining::prepare(const OnnxRuntime& runtime,
                                                                      const TrainJob& job,
                                                                      const TrainFolders& folders) {
  TRY(check_task(job.trainer, job.task));
  TrainerParams params = TRY(TrainerParams::parse(job.trainer, job.params));
  const TrainTable train = TRY(TrainTable::open(folders.source, "train"));
  TrainTable valid = TRY(TrainTable::open(folders.source, "valid"));
  std::unique_ptr<RecommendTraining> training(
      new RecommendTraining(runtime, job, std::move(params), std::move(valid)));
  training->metric_ = TRY(list_metric(job.metric));
  TRY(training->read(train));
  TRY(check_recommender(training->train_, training->params_.integer("factors"), job.group));
  training->trainer_ =
      TRY(MfTrainer::create(training->params_, job.seed, job.memory, training->train_));
  return training;
}

Status RecommendTraining::read(const TrainTable& train) {
  const InteractionColumns columns =
      TRY(interaction_columns(train, job_.target, job_.group, job_.columns));
  train_ = TRY(read_interactions(train, columns));
  Interactions held = TRY(read_interactions(valid_, columns));
  train_rows_ = train.rows();
  left_out_ = train_.left_out + held.left_out;
  held_ = hold_out(std::move(held), train_);
  if (held_.known_users == 0) {
    return refuse(
        reason::kInvalidInput,
        fmt::format("of the validation rows' users none has other items in training rows, so that "
                    "nothing can be learned that holds for him: are rows split by '{}'? A dataset "
                    "for recommendation is split by its rows",
                    job_.group));
  }
  const std::size_t count = std::min(held_.users.size(), kMostSampled);
  for (std::size_t i = 0; i < count; ++i)
    sample_.push_back(held_.users[i * held_.users.size() / count]);
  return {};
}

Result<ItemLists> RecommendTraining::lists_for(std::span<const JudgedUser> users) const {
  const std::size_t most = std::min<std::size_t>(params_.integer("top"), kJudgedItems);
  ItemLists lists;
  for (const JudgedUser& user : users) {
    std::vector<std::uint32_t>& list = lists.emplace_back();
    for (const Recommended& one : TRY(trainer_->recommend(user.known, most)))
      list.push_back(held_.of_train[one.item]);
  }
  return lists;
}

Result<double> RecommendTraining::judge_valid() {
  const ItemLists lists = TRY(lists_for(sample_));
  return validation::score(metric_, worth_of(metric_, sample_, lists));
}

// By judged user, as a scoring leaves them (score_job.h).
Status RecommendTraining::write_predictions(const Path& output, const ItemLists& lists) const {
  std::vector<std::uint32_t> rows;
  for (const JudgedUser& user : held_.users) rows.push_back(user.row);
  TRY(write_row_keys(output / "row.npy", valid_, rows));
  return write_worth(output, worth_of(metric_, held_.users, lists));
}

Result<Json> RecommendTraining::make_and_check(const Path& output) {
  const std::string onnx = TRY(make_recommender({.train = train_,
                                                 .users = trainer_->users(),
                                                 .items = trainer_->items(),
                                                 .factors = trainer_->factors(),
                                                 .column = job_.group,
                                                 .top = params_.integer("top")}));
  const ParityReport parity = TRY(check_recommender_parity({.runtime = runtime_,
                                                            .onnx = onnx,
                                                            .column = job_.group,
                                                            .top = params_.integer("top"),
                                                            .train = train_,
                                                            .held = held_,
                                                            .trainer = *trainer_,
                                                            .threads = job_.threads}));
  Json details = TRY(passed(parity));
  TRY(write_model(output, onnx));
  return details;
}

Result<Json> RecommendTraining::finish(const Path& output, const Json& history) {
  TRY(make_directories(output));
  const ItemLists lists = TRY(lists_for(held_.users));
  TRY(write_predictions(output, lists));
  Json main = begin_report(job_, params_);
  main["metric"] = metric();
  main["metrics"] = describe_lists(held_.users, lists, Evaluation::kAlpha, job_.seed);
  main["rounds"] = trainer_->rounds();
  main["rows"] = Json{{"train", train_rows_ - train_.left_out},
                      {"valid", valid_.rows() - (left_out_ - train_.left_out)},
                      {"without_target", left_out_}};
  main["users"] = train_.users.size();
  main["items"] = train_.items.size();
  main["pairs"] = train_.pairs.size();
  main["judged"] = Json{{"users", held_.users.size()}, {"known", held_.known_users}};
  Json report = main;
  report["group"] = job_.group;
  report["history"] = history;
  for (const char* key : {"classes", "left_out", "importance"}) report[key] = Json::array();
  if (job_.model) report["parity"] = TRY(make_and_check(output));
  TRY(write_report(output, report));
  return main;
}

}  // namespace mayfly
