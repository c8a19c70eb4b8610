#include "runner/train/baselines.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

namespace mayfly {
namespace {

constexpr std::size_t kMostSchemaText = std::size_t{64} << 20;

// The shares of the classes, or the mean; empty: there are no training rows.
Result<std::vector<float>> fit_guess(const Path& source, const ScoreJob& job,
                                     const ClassNames& classes) {
  const TrainTable train =
      TRY(TrainTable::open(source, "train", {.only = std::span(&job.target, 1)}));
  const Target target =
      TRY(read_target(job.task, classes, train, {.target = train.find(job.target), .group = {}}));
  if (target.labels.empty()) return std::vector<float>();
  const auto rows = static_cast<double>(target.labels.size());
  if (!is_classification(job.task)) {
    const double sum = std::accumulate(target.labels.begin(), target.labels.end(), 0.0);
    return std::vector{static_cast<float>(sum / rows)};
  }
  std::vector<double> counts(classes.size());
  double known = 0;
  for (const float label : target.labels) {
    const auto place = static_cast<std::size_t>(label);
    if (place >= counts.size()) continue;
    ++counts[place];
    ++known;
  }
  std::vector<float> shares;
  for (const double count : counts) shares.push_back(static_cast<float>(count / known));
  return known > 0 ? shares : std::vector<float>();
}

Scores repeated(const std::vector<float>& guess, std::size_t rows) {
  Scores scores{.width = guess.size(), .values = {}};
  scores.values.reserve(rows * guess.size());
  for (std::size_t row = 0; row < rows; ++row)
    scores.values.insert(scores.values.end(), guess.begin(), guess.end());
  return scores;
}

// Places of the judged rows as time has them; nullopt: they have no time.
Result<std::optional<std::vector<std::size_t>>> order_by_time(const JudgedRows& rows,
                                                              const Path& source) {
  const std::string text = TRY(read_file(source / "schema.json", kMostSchemaText));
  const Json schema = TRY(parse_json(text, "schema.json"));
  const Json name = schema.is_object() ? schema.value("event_time", Json()) : Json();
  if (!name.is_string() || name.get_ref<const std::string&>().empty()) return std::nullopt;
  const auto column = rows.table.find(name.get_ref<const std::string&>());
  if (!column || rows.table.columns()[*column].kind != ColumnKind::Date) return std::nullopt;
  std::vector<std::int64_t> times(rows.target.rows.size());
  TRY(rows.table.integers(*column, rows.target.rows, times));
  std::vector<std::size_t> order(times.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [&](std::size_t place) { return std::pair(times[place], place); });
  return order;
}

// Each row as the one before it was; the first as the guess.
Scores last_values(const JudgedRows& rows, const std::vector<std::size_t>& order,
                   const std::vector<float>& guess) {
  Scores scores = repeated(guess, order.size());
  for (std::size_t i = 1; i < order.size(); ++i) {
    const float before = rows.target.labels[order[i - 1]];
    const auto one = std::span(scores.values).subspan(order[i] * scores.width, scores.width);
    if (!is_classification(rows.task)) {
      one[0] = before;
    } else if (before < static_cast<float>(scores.width)) {
      std::ranges::fill(one, 0.0F);
      one[static_cast<std::size_t>(before)] = 1;
    }
  }
  return scores;
}

Result<Json> metrics_of(const JudgedRows& rows, Scores scores) {
  Json judged = TRY(rows.judge(std::move(scores)));
  return Json{{"metrics", std::move(judged["metrics"])}};
}

}  // namespace

Result<Json> judge_baselines(const JudgedRows& rows, const Path& source, const ScoreJob& job,
                             const ClassNames& classes) {
  Json json = Json::object();
  if (job.task == TrainTask::Ranking || job.task == TrainTask::Clustering) return json;
  const std::vector<float> guess = TRY(fit_guess(source, job, classes));
  if (guess.empty()) return json;
  const std::size_t count = rows.target.rows.size();
  json[is_classification(job.task) ? "majority" : "mean"] =
      TRY(metrics_of(rows, repeated(guess, count)));
  if (const auto order = TRY(order_by_time(rows, source)))
    json["last_value"] = TRY(metrics_of(rows, last_values(rows, *order, guess)));
  return json;
}

}  // namespace mayfly
