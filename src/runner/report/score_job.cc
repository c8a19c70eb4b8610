#include "runner/report/score_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostScoredClasses = 1000;
constexpr std::size_t kMostScoredMetrics = 32;
constexpr std::size_t kMostSliceValues = 10'000;
constexpr std::size_t kLongestModelName = 32;

std::unexpected<Error> bad_score(std::string_view why) {
  return refuse(reason::kInstanceCrashed, fmt::format("the job broke its protocol: {}", why));
}

// A name of a file, whatever it is put behind.
bool is_model_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kLongestModelName && std::ranges::all_of(name, fits);
}

void read_names(JsonReader& reader, const char* key, std::size_t most,
                std::vector<std::string>& names) {
  const Json* list = reader.value(key);
  if (list == nullptr) return;
  names.clear();
  if (!list->is_array() || list->size() > most)
    return reader.error(key, fmt::format("must be a list of at most {} names", most));
  for (const Json& name : *list) {
    if (!name.is_string()) return reader.error(key, "must be a list of names");
    names.push_back(name.get<std::string>());
  }
}

void check_models(JsonReader& reader, const std::vector<std::string>& models) {
  if (models.empty()) return reader.error("models", "names none");
  for (std::size_t i = 0; i < models.size(); ++i) {
    if (!is_model_name(models[i]))
      return reader.error("models", fmt::format("'{}' is no name of one", models[i]));
    if (std::ranges::find(models.begin(), models.begin() + static_cast<std::ptrdiff_t>(i),
                          models[i]) != models.begin() + static_cast<std::ptrdiff_t>(i))
      return reader.error("models", fmt::format("'{}' stands there twice", models[i]));
  }
}

// null: none.
Status read_figure(const Json& object, const char* key, std::optional<double>& figure) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  if (!found->is_number() || !std::isfinite(found->get<double>()))
    return bad_score(fmt::format("a metric's '{}' is no number", key));
  figure = found->get<double>();
  return {};
}

Result<ScoredMetric> read_metric(const Json& json) {
  if (!json.is_object()) return bad_score("a metric is no object");
  ScoredMetric metric;
  TRY(read_figure(json, "value", metric.value));
  TRY(read_figure(json, "low", metric.low));
  TRY(read_figure(json, "high", metric.high));
  return metric;
}

Result<ScoredMetrics> read_metrics(const Json& owner) {
  const auto found = owner.is_object() ? owner.find("metrics") : owner.end();
  if (!owner.is_object() || found == owner.end() || !found->is_object())
    return bad_score("a model has no metrics");
  if (found->size() > kMostScoredMetrics) return bad_score("a model has too many metrics");
  ScoredMetrics metrics;
  for (const auto& [name, metric] : found->items()) metrics.emplace(name, TRY(read_metric(metric)));
  return metrics;
}

Result<std::vector<SliceScore>> read_slices(const Json& model, const ScoreJob& job) {
  std::vector<SliceScore> slices;
  const auto found = model.find("slices");
  if (found == model.end()) return slices;
  if (!found->is_object()) return bad_score("slices are no object");
  for (const auto& [column, values] : found->items()) {
    if (std::ranges::find(job.slices, column) == job.slices.end() || !values.is_array())
      return bad_score("there is a slice that nobody asked for");
    for (const Json& one : values) {
      if (slices.size() == kMostSliceValues) return bad_score("there are too many slices");
      if (!one.is_object() || !one.contains("value") || !one["value"].is_string() ||
          !one.contains("rows") || !one["rows"].is_number_unsigned() || !one.contains("metric"))
        return bad_score("a slice lacks its value, rows or metric");
      slices.push_back({.column = column,
                        .value = one["value"].get<std::string>(),
                        .rows = one["rows"].get<std::uint64_t>(),
                        .metric = TRY(read_metric(one["metric"]))});
    }
  }
  return slices;
}

}  // namespace

std::string to_json(const ScoreJob& job) {
  return Json{{"score",
               {{"models", job.models},
                {"split", to_string(job.split)},
                {"task", to_string(job.task)},
                {"target", job.target},
                {"positive", job.positive},
                {"group", job.group},
                {"classes", job.classes},
                {"metric", job.metric},
                {"seed", job.seed},
                {"alpha", job.alpha},
                {"slices", job.slices},
                {"requests", job.requests},
                {"threads", job.threads},
                {"memory", to_string(job.memory)}}}}
      .dump();
}

std::vector<std::string> guessed_by(const ScoreJob& job) {
  if (job.task == TrainTask::Recommendation) return {job.target, job.group};
  return {job.target};
}

Result<std::optional<ScoreJob>> parse_score_job(std::string_view text) {
  const Json json = TRY(parse_json(text, "score job"));
  if (!json.is_object() || !json.contains("score")) return std::nullopt;
  ScoreJob job;
  JsonReader reader(json["score"], "score job", reason::kBadRequest);
  read_names(reader, "models", kMostScoredModels, job.models);
  check_models(reader, job.models);
  read_names(reader, "classes", kMostScoredClasses, job.classes);
  read_names(reader, "slices", kMostScoredSlices, job.slices);
  std::string split(to_string(job.split));
  std::string task(to_string(job.task));
  reader.text("split", split)
      .text("task", task)
      .text("target", job.target)
      .text("positive", job.positive)
      .text("group", job.group)
      .text("metric", job.metric)
      .integer("seed", job.seed, std::uint64_t{0}, ~std::uint64_t{0})
      .integer("requests", job.requests, std::uint64_t{0}, kMostRowRequests)
      .integer("threads", job.threads, 1U, 1024U)
      .bytes("memory", job.memory, mib(1), gib(std::uint64_t{1} << 20));
  const auto found_split = parse_split(split);
  const auto found_task = parse_train_task(task);
  if (!found_split) reader.error("split", fmt::format("'{}' is none that there is", split));
  if (!found_task) reader.error("task", fmt::format("'{}' is none that there is", task));
  if (const Json* alpha = reader.value("alpha")) {
    job.alpha = alpha->is_number() ? alpha->get<double>() : -1;
    if (!(job.alpha > 0 && job.alpha < 0.5)) reader.error("alpha", "must be between 0 and 0.5");
  }
  TRY(reader.finish());
  job.split = *found_split;
  job.task = *found_task;
  return job;
}

Result<ScoreResult> parse_score_result(std::string_view text, const ScoreJob& job) {
  if (text.size() > kMaxTrainEnd) return bad_score("the result is too long");
  const auto json = parse_json(text, "result");
  if (!json || !json->is_object()) return bad_score("the result is none");
  ScoreResult result{.split = job.split,
                     .metric = {},
                     .rows = 0,
                     .alpha = job.alpha,
                     .models = {},
                     .baselines = {}};
  const auto metric = json->find("metric");
  const auto rows = json->find("rows");
  if (metric == json->end() || !metric->is_string()) return bad_score("the result has no metric");
  if (rows == json->end() || !rows->is_number_unsigned())
    return bad_score("the result has no number of rows");
  result.metric = metric->get<std::string>();
  result.rows = rows->get<std::uint64_t>();
  const auto models = json->find("models");
  if (models == json->end() || !models->is_object() || models->size() != job.models.size())
    return bad_score("the result is not of the models that were asked for");
  for (const std::string& name : job.models) {
    const auto model = models->find(name);
    if (model == models->end()) return bad_score("the result lacks a model");
    ModelScore score{.metrics = TRY(read_metrics(*model)), .slices = {}};
    score.slices = TRY(read_slices(*model, job));
    if (!score.metrics.contains(result.metric)) return bad_score("a model lacks the metric");
    result.models.emplace(name, std::move(score));
  }
  const auto baselines = json->find("baselines");
  if (baselines == json->end()) return result;
  if (!baselines->is_object() || baselines->size() > kMostScoredMetrics)
    return bad_score("the baselines are none");
  for (const auto& [name, baseline] : baselines->items())
    result.baselines.emplace(name, TRY(read_metrics(baseline)));
  return result;
}

Result<std::uint64_t> parse_requests_result(std::string_view text, const ScoreJob& job) {
  if (text.size() > kMaxTrainEnd) return bad_score("the result is too long");
  const auto json = parse_json(text, "result");
  const auto found = json && json->is_object() ? json->find("requests") : Json::const_iterator();
  if (!json || !json->is_object() || found == json->end() || !found->is_number_unsigned())
    return bad_score("the result has no number of requests");
  const auto requests = found->get<std::uint64_t>();
  if (requests > job.requests) return bad_score("there are more requests than were asked for");
  return requests;
}

}  // namespace mayfly
