#include "runner/train/scoring.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include "core/reason.h"
#include "runner/train/baselines.h"
#include "runner/train/recommend_scoring.h"
#include "runner/train/row_requests.h"
#include "runner/train/worker.h"
#include "validation/calibration.h"
#include "validation/metric.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostSlicesShown = 50;  // values of a column, the most frequent

std::unexpected<Error> cannot_score(std::string what) {
  return refuse(reason::kInvalidInput, std::move(what));
}

template <typename T>
Status write_npy(const Path& path, std::vector<std::uint64_t> row, std::span<const T> values) {
  NpyWriter writer = TRY(NpyWriter::create(path, npy_type<T>(), std::move(row)));
  TRY(writer.append(values));
  return writer.close();
}

// A class that no model knows has the probability 0.
Scores widened(const Scores& scores) {
  Scores wide{.width = scores.width + 1, .values = {}};
  wide.values.reserve(scores.rows() * wide.width);
  for (std::size_t row = 0; row < scores.rows(); ++row) {
    const auto values = scores.row(row);
    wide.values.insert(wide.values.end(), values.begin(), values.end());
    wide.values.push_back(0);
  }
  return wide;
}

Json describe_calibration(const Target& target, const Scores& scores) {
  validation::ClassPredictions some{
      .classes = scores.width, .truth = {}, .probabilities = scores.values};
  for (const float label : target.labels) some.truth.push_back(static_cast<std::uint32_t>(label));
  Json bins = Json::array();
  for (const auto& bin : validation::calibration(some)) {
    bins.push_back(Json{{"low", bin.low},
                        {"high", bin.high},
                        {"rows", bin.rows},
                        {"confidence", bin.confidence},
                        {"accuracy", bin.accuracy}});
  }
  return Json{{"ece", validation::score(validation::Metric::Ece, some)}, {"bins", bins}};
}

Result<std::vector<std::int64_t>> whole_numbers(const std::vector<std::string>& names) {
  std::vector<std::int64_t> numbers;
  for (const std::string& name : names) {
    std::int64_t number = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data(), end, number);
    if (parsed.ec != std::errc() || parsed.ptr != end)
      return cannot_score(fmt::format("the class '{}' is no whole number, as its column's", name));
    numbers.push_back(number);
  }
  return numbers;
}

}  // namespace

Result<ClassNames> classes_named(const std::vector<std::string>& names, const TrainTable& table,
                                 std::string_view target) {
  if (names.size() < 2) return cannot_score("a classification has two classes at least");
  const auto column = table.find(target);
  if (!column) return cannot_score(fmt::format("there is no column '{}', the target", target));
  ClassNames classes;
  if (table.columns()[*column].kind == ColumnKind::Category) {
    classes.names = names;
  } else {
    classes.names = TRY(whole_numbers(names));
  }
  return classes;
}

Result<JudgedRows> read_judged_rows(const TrainTable& table, const ScoreJob& job,
                                    const ClassNames& classes) {
  TargetColumns columns;
  for (const auto& [name, found] :
       {std::pair(&job.target, &columns.target), std::pair(&job.group, &columns.group)}) {
    if (name->empty()) continue;
    *found = table.find(*name);
    if (!*found) return cannot_score(fmt::format("there is no column '{}'", *name));
  }
  if (job.task != TrainTask::Clustering && !columns.target)
    return cannot_score(fmt::format("{} needs a target", to_string(job.task)));
  if (job.task == TrainTask::Ranking && !columns.group)
    return cannot_score("ranking needs a group");
  JudgedRows rows{.table = table,
                  .task = job.task,
                  .metric = job.metric,
                  .seed = job.seed,
                  .alpha = job.alpha,
                  .target = TRY(read_target(job.task, classes, table, columns)),
                  .classes = classes.size(),
                  .has_unknown = false};
  if (rows.target.rows.empty())
    return cannot_score(
        fmt::format("the split has no rows{}", columns.target ? " with a target" : ""));
  const auto known = static_cast<float>(rows.classes);
  rows.has_unknown =
      is_classification(job.task) &&
      std::ranges::any_of(rows.target.labels, [known](float label) { return label >= known; });
  if (rows.has_unknown && job.task == TrainTask::Binary)
    return cannot_score(fmt::format("column '{}' holds classes beside '{}' and '{}'", job.target,
                                    classes.text(0), classes.text(1)));
  return rows;
}

Result<std::string> JudgedRows::metric_name() const {
  const auto evaluation =
      TRY(Evaluation::create(task, metric, target, static_cast<std::uint32_t>(classes)));
  return std::string(evaluation.metric());
}

Result<Json> JudgedRows::judge(Scores scores) const {
  if (scores.rows() != target.rows.size())
    return fail(Code::Internal, "other rows were scored than there are");
  if (has_unknown) scores = widened(scores);
  const auto all = static_cast<std::uint32_t>(classes + (has_unknown ? 1 : 0));
  const auto evaluation = TRY(Evaluation::create(task, metric, target, all));
  Json json{{"metrics", TRY(evaluation.describe(scores, Evaluation::Which::All, seed, alpha))}};
  if (!is_classification(task)) return json;
  json["confusion"] = evaluation.confusion(scores);
  json["calibration"] = describe_calibration(target, scores);
  return json;
}

Result<JudgedRows::Slices> JudgedRows::slice_by(const std::string& column) const {
  const auto index = table.find(column);
  if (!index || table.columns()[*index].kind != ColumnKind::Category)
    return cannot_score(fmt::format("'{}' is no column of categories, to slice by", column));
  if (task == TrainTask::Ranking || task == TrainTask::Clustering)
    return cannot_score(fmt::format("there are no slices of {}", to_string(task)));
  std::vector<std::string_view> values(target.rows.size());
  TRY(table.texts(*index, target.rows, values));
  std::map<std::string_view, std::int64_t> counts;
  for (const std::string_view value : values) ++counts[value];
  Slices slices;
  for (const auto& [value, rows] : counts) slices.values.push_back(value);
  std::ranges::sort(slices.values, {},
                    [&](std::string_view value) { return std::pair(-counts[value], value); });
  slices.values.resize(std::min(slices.values.size(), kMostSlicesShown));
  std::map<std::string_view, std::int32_t> places;
  for (const std::string_view value : slices.values)
    places.emplace(value, static_cast<std::int32_t>(places.size()));
  for (const std::string_view value : values) {
    const auto found = places.find(value);
    slices.places.push_back(found == places.end() ? -1 : found->second);
  }
  return slices;
}

Result<Json> JudgedRows::judge_slices(const Scores& scores, const Slices& slices) const {
  Json judged = Json::array();
  for (std::size_t i = 0; i < slices.values.size(); ++i) {
    Target part;
    Scores said{.width = scores.width, .values = {}};
    for (std::size_t place = 0; place < slices.places.size(); ++place) {
      if (slices.places[place] != static_cast<std::int32_t>(i)) continue;
      part.rows.push_back(target.rows[place]);
      part.labels.push_back(target.labels[place]);
      const auto one = scores.row(place);
      said.values.insert(said.values.end(), one.begin(), one.end());
    }
    if (has_unknown) said = widened(said);
    const auto evaluation =
        TRY(Evaluation::create(task, metric, part, static_cast<std::uint32_t>(said.width)));
    const Json metrics =
        TRY(evaluation.describe(std::move(said), Evaluation::Which::One, seed, alpha));
    judged.push_back(Json{{"value", slices.values[i]},
                          {"rows", part.rows.size()},
                          {"metric", metrics.at(std::string(evaluation.metric()))}});
  }
  return judged;
}

Status write_row_keys(const Path& path, const TrainTable& table,
                      std::span<const std::uint32_t> rows) {
  std::vector<std::uint64_t> keys(rows.size());
  table.keys(rows, keys);
  return write_npy<std::uint64_t>(path, {}, keys);
}

Status write_numbers(const Path& path, const std::vector<double>& values) {
  return write_npy<double>(path, {}, values);
}

Status write_worth(const Path& folder, const validation::ValuePredictions& worth) {
  return write_numbers(folder / "value.npy", worth.value);
}

Status write_answer(const Path& folder, TrainTask task, const ModelAnswer& answer) {
  TRY(make_directories(folder));
  const std::span<const float> values = answer.scores.values;
  if (is_classification(task))
    return write_npy(folder / "probabilities.npy", {answer.scores.width}, values);
  if (task != TrainTask::Clustering) return write_npy(folder / "value.npy", {}, values);
  if (const auto* clusters = std::get_if<std::vector<std::int64_t>>(&answer.places))
    TRY(write_npy<std::int64_t>(folder / "cluster.npy", {}, *clusters));
  return write_npy(folder / "distance.npy", {}, values);
}

namespace {

class Scoring {
 public:
  Scoring(const OnnxRuntime& runtime, const ScoreJob& job, const TrainFolders& folders)
      : runtime_(runtime), job_(job), folders_(folders) {}

  Result<TrainEnd> run() {
    if (job_.requests > 0) return leave_requests();
    const TrainTable table = TRY(TrainTable::open(folders_.source, to_string(job_.split)));
    ClassNames classes;
    if (is_classification(job_.task)) classes = TRY(named_classes(table));
    const JudgedRows rows = TRY(read_judged_rows(table, job_, classes));
    const Path output = folders_.work / "output";
    TRY(make_directories(output));
    TRY(write_row_keys(output / "row.npy", table, rows.target.rows));
    TRY(write_truth(output / "truth.npy", rows));
    std::vector<JudgedRows::Slices> slices;
    for (const std::string& column : job_.slices) slices.push_back(TRY(rows.slice_by(column)));
    TRY(write_slices(output / "slices", slices));
    Json result{{"split", to_string(job_.split)},
                {"task", to_string(job_.task)},
                {"metric", TRY(rows.metric_name())},
                {"rows", rows.target.rows.size()},
                {"without_target", table.rows() - rows.target.rows.size()},
                {"alpha", job_.alpha},
                {"models", Json::object()}};
    for (const std::string& name : job_.models) {
      auto scored = score(rows, slices, name, output / name);
      if (!scored) return std::unexpected(std::move(scored).error().in(name));
      result["models"][name] = *std::move(scored);
    }
    result["baselines"] = TRY(judge_baselines(rows, folders_.source, job_, classes));
    return TrainEnd{.how = TrainEnd::How::Finished, .result = result.dump()};
  }

 private:
  Path model_file(const std::string& name) const {
    return folders_.source / "models" / fmt::format("{}.onnx", name);
  }

  Result<TrainEnd> leave_requests() const {
    const TrainTable table =
        TRY(TrainTable::open(folders_.source, to_string(job_.split), {.without = job_.target}));
    const ModelAsk ask{job_.task, job_.target, job_.group, job_.classes.size(), job_.threads};
    const auto model =
        TRY(ColumnModel::open(runtime_, model_file(job_.models.front()), table, ask));
    const Path output = folders_.work / "output";
    TRY(make_directories(output));
    const std::uint64_t written =
        TRY(write_row_requests(model, table, job_.requests, output / "requests.jsonl"));
    return TrainEnd{.how = TrainEnd::How::Finished, .result = Json{{"requests", written}}.dump()};
  }

  Result<ClassNames> named_classes(const TrainTable& table) const {
    if (job_.task == TrainTask::Binary && job_.classes.size() != 2)
      return cannot_score("a binary task has two classes");
    if (!job_.positive.empty() && job_.classes.size() == 2 && job_.positive != job_.classes[1])
      return cannot_score("the positive class comes second");
    return classes_named(job_.classes, table, job_.target);
  }

  Status write_truth(const Path& path, const JudgedRows& rows) const {
    if (job_.task == TrainTask::Clustering) return {};
    const auto& labels = rows.target.labels;
    if (!is_classification(job_.task)) {
      const std::vector<double> values(labels.begin(), labels.end());
      return write_numbers(path, values);
    }
    std::vector<std::int64_t> places;
    for (const float label : labels) places.push_back(static_cast<std::int64_t>(label));
    return write_npy<std::int64_t>(path, {}, places);
  }

  static Status write_slices(const Path& folder, const std::vector<JudgedRows::Slices>& slices) {
    if (!slices.empty()) TRY(make_directories(folder));
    for (std::size_t i = 0; i < slices.size(); ++i)
      TRY(write_npy<std::int32_t>(folder / fmt::format("{}.npy", i), {}, slices[i].places));
    return {};
  }

  Result<Json> score(const JudgedRows& rows, const std::vector<JudgedRows::Slices>& slices,
                     const std::string& name, const Path& folder) const {
    ColumnModel model =
        TRY(ColumnModel::open(runtime_, model_file(name), rows.table,
                              {job_.task, job_.target, job_.group, rows.classes, job_.threads}));
    ModelAnswer answer = TRY(model.run(rows.table, rows.target.rows));
    Json judged = TRY(rows.judge(answer.scores));
    for (std::size_t i = 0; i < slices.size(); ++i)
      judged["slices"][job_.slices[i]] = TRY(rows.judge_slices(answer.scores, slices[i]));
    TRY(write_answer(folder, job_.task, answer));
    return judged;
  }

  const OnnxRuntime& runtime_;
  const ScoreJob& job_;
  const TrainFolders& folders_;
};

}  // namespace

Status run_scoring(const OnnxRuntime& runtime, const ScoreJob& job, const TrainFolders& folders) {
  if (job.task == TrainTask::Recommendation && job.requests == 0)
    return leave_end(folders.work, score_recommenders(runtime, job, folders));
  return leave_end(folders.work, Scoring(runtime, job, folders).run());
}

}  // namespace mayfly
