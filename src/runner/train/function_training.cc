#include "runner/train/function_training.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/printable.h"
#include "core/reason.h"
#include "core/train_reason.h"
#include "runner/train/agreement.h"
#include "runner/train/column_model.h"
#include "runner/train/learn_task.h"
#include "runner/train/parity_rows.h"
#include "runner/train/scoring.h"
#include "runner/train/worker.h"

namespace mayfly {
namespace {

constexpr std::size_t kLongestCell = 200;
constexpr std::size_t kMostCells = 500;
constexpr std::size_t kCopied = std::size_t{1} << 20;

std::unexpected<Error> bad_training(std::string what) {
  return refuse(reason::kInvalidInput, fmt::format("train(ctx): {}", what));
}

Status write_document(const Path& path, const Json& json) {
  const Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
  return write_all(file.get(), json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

struct Snapshots {
  TrainTable train;
  TrainTable valid;
  LearnTargets targets;
  std::vector<std::size_t> columns;  // ascending
};

Result<Snapshots> open_snapshots(const TrainJob& job, const Path& source) {
  Snapshots some{.train = TRY(TrainTable::open(source, "train")),
                 .valid = TRY(TrainTable::open(source, "valid")),
                 .targets = {},
                 .columns = {}};
  some.targets = TRY(read_targets(job, some.train, some.valid));
  some.columns = TRY(feature_columns(job, some.train));
  std::ranges::sort(some.columns);
  if (some.columns.empty()) return bad_training("there is no column to learn from");
  return some;
}

Result<Json> leave_facts(const TrainJob& job, const TrainFolders& folders) {
  const Snapshots some = TRY(open_snapshots(job, folders.source));
  const Path output = folders.work / "output";
  TRY(make_directories(output / "parity"));
  Json facts{{"classes", nullptr},
             {"columns", Json::array()},
             {"train_rows", some.targets.train.rows.size()},
             {"valid_rows", some.targets.valid.rows.size()}};
  if (is_classification(job.task))
    std::visit([&](const auto& names) { facts["classes"] = names; }, some.targets.classes.names);
  for (const std::size_t column : some.columns)
    facts["columns"].push_back(some.train.columns()[column].name);
  TRY(write_document(output / "facts.json", facts));
  TRY(write_parity_rows({.valid = some.valid,
                         .valid_rows = some.targets.valid.rows,
                         .train = some.train,
                         .train_rows = some.targets.train.rows,
                         .columns = some.columns,
                         .seed = job.seed},
                        output / "parity"));
  return facts;
}

// An array that the function's jail left.
Result<std::vector<double>> read_reals(const Path& path, std::size_t rows, std::size_t width) {
  const NpyColumn column = TRY(NpyColumn::open(path));
  std::vector<std::uint64_t> shape = {rows};
  if (width > 0) shape.push_back(width);
  const bool real = column.type() == NpyType::Float32 || column.type() == NpyType::Float64;
  if (!real || column.shape() != shape)
    return bad_training(
        fmt::format("'{}' of the parity rows is not what it should be", path.filename().native()));
  std::vector<double> values;
  values.reserve(rows * std::max<std::size_t>(width, 1));
  if (column.type() == NpyType::Float64) {
    const auto all = column.as<double>();
    values.assign(all.begin(), all.end());
  } else {
    const auto all = column.as<float>();
    values.assign(all.begin(), all.end());
  }
  return values;
}

Result<std::vector<std::int64_t>> read_wholes(const Path& path, std::size_t rows) {
  const NpyColumn column = TRY(NpyColumn::open(path));
  if (column.type() != NpyType::Int64 || column.shape() != std::vector<std::uint64_t>{rows})
    return bad_training(
        fmt::format("'{}' of the parity rows is not what it should be", path.filename().native()));
  const auto all = column.as<std::int64_t>();
  return std::vector<std::int64_t>(all.begin(), all.end());
}

// A row of the parity table, for people.
Json shown_row(const TrainTable& table, std::size_t row) {
  Json json = Json::object();
  const std::array one = {static_cast<std::uint32_t>(row)};
  for (std::size_t i = 0; i < std::min(table.columns().size(), kMostCells); ++i) {
    const TrainColumn& column = table.columns()[i];
    Json& cell = json[column.name];
    if (column.kind == ColumnKind::Image) {
      cell = "an image";
    } else if (column.kind == ColumnKind::Number || column.kind == ColumnKind::Integer) {
      std::array<double, 1> value{};
      if (table.doubles(i, one, value)) cell = value[0];  // NaN: null
    } else if (column.kind == ColumnKind::Date) {
      std::array<std::int64_t, 1> value{};
      if (table.integers(i, one, value)) cell = value[0];
    } else {
      std::array<std::string_view, 1> value;
      if (table.texts(i, one, value)) cell = printable(value[0], kLongestCell);
    }
  }
  return json;
}

class FunctionCheck {
 public:
  FunctionCheck(const OnnxRuntime& runtime, const TrainJob& job, const TrainFolders& folders)
      : runtime_(runtime), job_(job), folders_(folders) {}

  Result<Json> run() {
    const Snapshots some = TRY(open_snapshots(job_, folders_.source));
    const ClassNames& classes = some.targets.classes;
    const JudgedRows valid{.table = some.valid,
                           .task = job_.task,
                           .metric = job_.metric,
                           .seed = job_.seed,
                           .target = some.targets.valid,
                           .classes = classes.size()};
    const std::string metric = TRY(valid.metric_name());
    const ParityReport parity = TRY(check_parity_rows(classes));
    if (!parity.passed) {
      return refuse(
          reason::kParityFailed,
          fmt::format(
              "the model does not say what predict says: {}",
              parity.details.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 4000)));
    }
    ColumnModel model = TRY(open_model(some.valid, classes.size()));
    const ModelAnswer answer = TRY(model.run(some.valid, valid.target.rows));
    const Json judged = TRY(valid.judge(answer.scores));
    const Path output = folders_.work / "output";
    TRY(make_directories(output));
    TRY(write_row_keys(output / "row.npy", some.valid, valid.target.rows));
    TRY(write_answer(output, job_.task, answer));
    TRY(copy_model(output / "model.onnx"));
    return write_report(some, metric, judged, parity);
  }

 private:
  Path made() const { return folders_.source / "made"; }

  Result<ColumnModel> open_model(const TrainTable& table, std::size_t classes) const {
    return ColumnModel::open(runtime_, made() / "model.onnx", table,
                             {job_.task, job_.target, job_.group, classes, job_.threads});
  }

  Result<ParityReport> check_parity_rows(const ClassNames& classes) const {
    const Path folder = folders_.source / "given" / "parity";
    const TrainTable table = TRY(TrainTable::open(folder, kParitySplit));
    const ParityOrigins origins = TRY(ParityOrigins::read(folder, table.rows()));
    ColumnModel model = TRY(open_model(table, classes.size()));
    const ModelAnswer said = TRY(model.run(table, row_numbers(0, table.rows())));
    const std::size_t width = is_classification(job_.task) ? classes.size() : 0;
    const char* output = is_classification(job_.task)         ? "probabilities"
                         : job_.task == TrainTask::Clustering ? "distance"
                                                              : "value";
    const auto own = TRY(read_reals(made() / fmt::format("{}.npy", output), table.rows(), width));
    Agreement agreement(classes, scale_of(own, origins),
                        {.from = [&](std::size_t row) { return origins.of(row); },
                         .shown = [&](std::size_t row) { return shown_row(table, row); }});
    const std::size_t each = std::max<std::size_t>(width, 1);
    for (std::size_t i = 0; i < own.size(); ++i)
      agreement.compare_number(output, i / each, static_cast<double>(said.scores.values.at(i)),
                               own[i]);
    TRY(compare_places(said, own, table.rows(), agreement));
    return agreement.report(table.rows(), origins.counts());
  }

  // Labels, where the model says them; clusters.
  Status compare_places(const ModelAnswer& said, const std::vector<double>& own, std::size_t rows,
                        Agreement& agreement) const {
    if (is_classification(job_.task)) {
      if (std::visit([](const auto& labels) { return labels.empty(); }, said.places)) return {};
      const std::vector<float> floats(own.begin(), own.end());
      const std::size_t width = own.size() / rows;
      for (std::size_t row = 0; row < rows; ++row)
        agreement.compare_label(said.places, row, std::span(floats).subspan(row * width, width));
    }
    if (job_.task != TrainTask::Clustering) return {};
    const auto clusters = TRY(read_wholes(made() / "cluster.npy", rows));
    for (std::size_t row = 0; row < rows; ++row) {
      if (clusters[row] < 0) return bad_training("a cluster has a number below 0");
      // Of another cluster that is as near, the distance is the same.
      const double gap = static_cast<double>(said.scores.values.at(row)) - own[row];
      agreement.compare_cluster(cluster_said(said.places, row), row,
                                static_cast<std::size_t>(clusters[row]), own[row], gap);
    }
    return {};
  }

  // The standard deviation of what the function says of training rows; 1 for probabilities.
  double scale_of(const std::vector<double>& own, const ParityOrigins& origins) const {
    if (is_classification(job_.task)) return 1;
    double count = 0;
    double sum = 0;
    double squares = 0;
    for (std::size_t row = 0; row < own.size(); ++row) {
      if (origins.of(row) != "train" || !std::isfinite(own[row])) continue;
      ++count;
      sum += own[row];
      squares += own[row] * own[row];
    }
    if (count == 0) return 0;
    const double mean = sum / count;
    return std::sqrt(std::max(0.0, squares / count - mean * mean));
  }

  Status copy_model(const Path& target) const {
    const Fd from = TRY(open_file(made() / "model.onnx", O_RDONLY));
    const Fd to = TRY(open_file(target, O_WRONLY | O_CREAT | O_EXCL, 0644));
    std::vector<std::byte> piece(kCopied);
    while (true) {
      const ssize_t got = ::read(from.get(), piece.data(), piece.size());
      if (got < 0) return fail_errno("read the model");
      if (got == 0) return {};
      TRY(write_all(to.get(),
                    {reinterpret_cast<const char*>(piece.data()), static_cast<std::size_t>(got)}));
    }
  }

  Result<Json> write_report(const Snapshots& some, const std::string& metric, const Json& judged,
                            const ParityReport& parity) const {
    const LearnTargets& targets = some.targets;
    const std::size_t without = some.train.rows() - targets.train.rows.size() + some.valid.rows() -
                                targets.valid.rows.size();
    Json main{{"trainer", to_string(job_.trainer)},
              {"function", job_.function},
              {"task", to_string(job_.task)},
              {"target", job_.target},
              {"metric", metric},
              {"metrics", judged.at("metrics")},
              {"rounds", std::max(job_.rounds, 1U)},
              {"rows",
               {{"train", targets.train.rows.size()},
                {"valid", targets.valid.rows.size()},
                {"without_target", without}}},
              {"features", some.columns.size()},
              {"params", job_.params},
              {"seed", job_.seed},
              {"threads", job_.threads}};
    Json report = main;
    report["history"] = Json::array();
    report["confusion"] = judged.value("confusion", Json());
    report["calibration"] = judged.value("calibration", Json());
    report["classes"] = Json::array();
    for (std::size_t i = 0; i < targets.classes.size(); ++i)
      report["classes"].push_back(targets.classes.text(i));
    report["left_out"] = Json::array();
    report["importance"] = Json::array();
    report["parity"] = parity.details;
    TRY(write_document(folders_.work / "output" / "report.json", report));
    main["best_round"] = main["rounds"];
    main["stopped_early"] = false;
    return main;
  }

  const OnnxRuntime& runtime_;
  const TrainJob& job_;
  const TrainFolders& folders_;
};

Result<TrainEnd> finished(Result<Json> result) {
  if (!result) return std::unexpected(std::move(result).error());
  return TrainEnd{.how = TrainEnd::How::Finished, .result = result->dump()};
}

}  // namespace

Status run_function_facts(const TrainJob& job, const TrainFolders& folders) {
  return leave_end(folders.work, finished(leave_facts(job, folders)));
}

Status run_function_check(const OnnxRuntime& runtime, const TrainJob& job,
                          const TrainFolders& folders) {
  return leave_end(folders.work, finished(FunctionCheck(runtime, job, folders).run()));
}

}  // namespace mayfly
