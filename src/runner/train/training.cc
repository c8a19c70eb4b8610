#include "runner/train/training.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/reason.h"
#include "core/train_reason.h"
#include "runner/train/recommend_training.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostImportant = 100;
constexpr std::size_t kMostLeftOut = 100;

Status write_text(const Path& path, std::string_view text) {
  const Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
  return write_all(file.get(), text);
}

template <typename T>
Status write_values(const Path& path, std::vector<std::uint64_t> row, std::span<const T> values) {
  NpyWriter writer = TRY(NpyWriter::create(path, npy_type<T>(), std::move(row)));
  TRY(writer.append(values));
  return writer.close();
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Result<std::unique_ptr<Training>> prepare_training(const OnnxRuntime& runtime, const TrainJob& job,
                                                   const TrainFolders& folders) {
  if (job.task != TrainTask::Recommendation) return TableTraining::prepare(runtime, job, folders);
  return RecommendTraining::prepare(runtime, job, folders);
}

Json begin_report(const TrainJob& job, const TrainerParams& params) {
  return Json{{"trainer", to_string(job.trainer)},
              {"task", to_string(job.task)},
              {"target", job.target},
              {"params", params.to_json()},
              {"seed", job.seed},
              {"threads", job.threads},
              {"workers", job.workers}};
}

Status write_report(const Path& output, const Json& report) {
  return write_text(output / "report.json", dump(report));
}

Status write_model(const Path& output, std::string_view onnx) {
  return write_text(output / "model.onnx", onnx);
}

Result<Json> passed(const ParityReport& parity) {
  if (parity.passed) return parity.details;
  return refuse(reason::kParityFailed,
                fmt::format("the exported model does not say what the trainer says: {}",
                            dump(parity.details).substr(0, 4000)));
}

Result<std::unique_ptr<TableTraining>> TableTraining::prepare(const OnnxRuntime& runtime,
                                                              const TrainJob& job,
                                                              const TrainFolders& folders) {
  TRY(check_task(job.trainer, job.task));
  TrainerParams params = TRY(TrainerParams::parse(job.trainer, job.params));
  TrainTable train = TRY(TrainTable::open(folders.source, "train"));
  TrainTable valid = TRY(TrainTable::open(folders.source, "valid"));
  std::unique_ptr<TableTraining> training(new TableTraining(
      runtime, job, params, Side{.table = std::move(train), .target = {}, .matrix = {}},
      Side{.table = std::move(valid), .target = {}, .matrix = {}}));
  TRY(training->read_targets());
  const Path scratch = folders.work / "scratch";
  TRY(make_directories(scratch));
  TRY(training->make_matrices(scratch));
  training->evaluation_ =
      TRY(Evaluation::create(job.task, job.metric, training->valid_.target,
                             static_cast<std::uint32_t>(training->classes_.size())));
  training->trainer_ =
      TRY(make_trainer(job.trainer,
                       {.task = job.task,
                        .classes = static_cast<std::uint32_t>(training->classes_.size()),
                        .params = std::move(params),
                        .seed = job.seed,
                        .threads = job.threads,
                        .workers = job.workers,
                        .memory = job.memory,
                        .scratch = scratch,
                        .runtime = folders.runtime},
                       training->train_.rows(), training->valid_.rows()));
  return training;
}

Status TableTraining::read_targets() {
  LearnTargets targets = TRY(mayfly::read_targets(job_, train_.table, valid_.table));
  classes_ = std::move(targets.classes);
  train_.target = std::move(targets.train);
  valid_.target = std::move(targets.valid);
  return {};
}

Status TableTraining::make_matrices(const Path& scratch) {
  const auto columns = TRY(feature_columns(job_, train_.table));
  plan_ = TRY(fit_plan(runtime_, train_.table, columns, train_.target.rows,
                       plan_options(job_.trainer, params_)));
  features_ = TRY(FeatureGraph::open(runtime_, plan_.features, job_.threads));
  train_.matrix =
      TRY(Matrix::make(*features_, train_.table, train_.target.rows, scratch / "train.npy"));
  valid_.matrix =
      TRY(Matrix::make(*features_, valid_.table, valid_.target.rows, scratch / "valid.npy"));
  return {};
}

Result<double> TableTraining::judge_valid() {
  return evaluation_->judge(TRY(trainer_->score_valid()));
}

std::uint32_t TableTraining::early_stop() const {
  return job_.trainer == TrainerKind::Xgboost ? params_.integer("early_stop") : 0;
}

Json TableTraining::describe_rows() const {
  return Json{{"train", train_.target.rows.size()},
              {"valid", valid_.target.rows.size()},
              {"without_target", train_.table.rows() - train_.target.rows.size() +
                                     valid_.table.rows() - valid_.target.rows.size()}};
}

// The features that count most, as shares of all.
Result<Json> TableTraining::describe_importance() {
  const std::vector<double> found = TRY(trainer_->importance());
  double sum = 0;
  for (const double one : found) sum += one;
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < found.size(); ++i)
    if (found[i] > 0) order.push_back(i);
  std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(-found[i], i); });
  order.resize(std::min(order.size(), kMostImportant));
  Json json = Json::array();
  for (const std::size_t i : order)
    json.push_back(Json{{"feature", features_->names()[i]}, {"share", found[i] / sum}});
  return json;
}

// A file of each output, in the order of row.npy, which holds the rows' keys.
Status TableTraining::write_predictions(const Path& output, const Scores& scores) const {
  std::vector<std::uint64_t> keys(valid_.target.rows.size());
  valid_.table.keys(valid_.target.rows, keys);
  TRY(write_values<std::uint64_t>(output / "row.npy", {}, keys));
  if (is_classification(job_.task))
    return write_values<float>(output / "probabilities.npy", {scores.width}, scores.values);
  if (job_.task != TrainTask::Clustering)
    return write_values<float>(output / "value.npy", {}, scores.values);
  std::vector<std::int64_t> clusters;
  std::vector<float> distances;
  for (std::size_t row = 0; row < scores.rows(); ++row) {
    const auto values = scores.row(row);
    const auto nearest = std::ranges::min_element(values);
    clusters.push_back(nearest - values.begin());
    distances.push_back(*nearest);
  }
  TRY(write_values<std::int64_t>(output / "cluster.npy", {}, clusters));
  return write_values<float>(output / "distance.npy", {}, distances);
}

Result<Json> TableTraining::make_and_check(const Path& output) {
  const TrainedModel model = TRY(make_model(plan_.features, classes_, *trainer_));
  const ParityReport parity = TRY(check_parity({.runtime = runtime_,
                                                .task = job_.task,
                                                .model = model,
                                                .features = *features_,
                                                .classes = classes_,
                                                .trainer = *trainer_,
                                                .valid = {valid_.table, valid_.target.rows},
                                                .train = {train_.table, train_.target.rows},
                                                .seed = job_.seed,
                                                .threads = job_.threads}));
  Json details = TRY(passed(parity));
  TRY(write_model(output, model.onnx));
  return details;
}

Result<Json> TableTraining::finish(const Path& output, const Json& history) {
  TRY(make_directories(output));
  const Scores scores = TRY(trainer_->score_valid());
  TRY(write_predictions(output, scores));
  const auto which = job_.model ? Evaluation::Which::All : Evaluation::Which::One;
  const Json metrics = TRY(evaluation_->describe(scores, which, job_.seed));
  Json main = begin_report(job_, params_);
  main["metric"] = evaluation_->metric();
  main["metrics"] = metrics;
  main["rounds"] = trainer_->rounds();
  main["rows"] = describe_rows();
  main["features"] = features_->width();
  Json report = main;
  report["history"] = history;
  report["confusion"] = evaluation_->confusion(scores);
  Json names = Json::array();
  for (std::size_t i = 0; i < classes_.size(); ++i) names.push_back(classes_.text(i));
  report["classes"] = std::move(names);
  Json left_out = Json::array();
  for (const LeftOut& one : plan_.left_out) {
    if (left_out.size() < kMostLeftOut)
      left_out.push_back(Json{{"column", one.column}, {"why", one.why}});
  }
  report["left_out"] = std::move(left_out);
  report["importance"] = TRY(describe_importance());
  if (job_.model) report["parity"] = TRY(make_and_check(output));
  TRY(write_report(output, report));
  return main;
}

}  // namespace mayfly
