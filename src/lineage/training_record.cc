#include "lineage/training_record.h"

#include <fmt/format.h>

#include <utility>

#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "core/version.h"
#include "lineage/json_parts.h"

namespace mayfly {
namespace {

constexpr int kRecordFormat = 1;

// What `from` says of `key`, under `as`, if it says anything.
void take(Json& record, std::string_view as, const Json& from, std::string_view key) {
  if (const Json& found = at(from, key); !found.is_null()) record[std::string(as)] = found;
}
void take(Json& record, const Json& from, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) take(record, key, from, key);
}

Json trainer_of(const Json& report, const Json& detail, const Json& result) {
  Json trainer = Json::object();
  take(trainer, "kind", report, "trainer");
  take(trainer, "function", detail, "function");
  take(trainer, report, {"params", "seed", "rounds", "threads", "workers", "features"});
  take(trainer, result, {"code"});
  return trainer;
}

Json data_of(const LearnedFrom& data) {
  const SnapshotRecord& snapshot = data.snapshot;
  const Json sources = Json::parse(snapshot.sources, nullptr, false);
  return {{"dataset", data.dataset.name},
          {"id", data.dataset.id},
          {"snapshot", snapshot.number},
          {"digest", to_string(snapshot.digest)},
          {"rows",
           {{"train", snapshot.rows.train},
            {"valid", snapshot.rows.valid},
            {"test", snapshot.rows.test}}},
          {"bad_rows", snapshot.bad_rows},
          {"split", to_json_value(data.split)},
          {"split_basis", data.basis},
          {"created", format_time(snapshot.created)},
          {"sources", sources.is_discarded() ? Json::array() : sources}};
}

// Of the model in a scoring's result.
void take_score(Json& record, const Json& score) {
  const Json& model = at(at(score, "models"), "m0");
  if (model.is_null()) return;
  take(record["metrics"], "test", model, "metrics");
  Json confusion = Json::object();
  take(confusion, "test", model, "confusion");
  if (!confusion.empty()) record["confusion"].update(confusion);
  take(record, model, {"calibration", "slices"});
  take(record, score, {"alpha"});
  if (!record.contains("baselines")) take(record, score, {"baselines"});
}

}  // namespace

Json training_record(const RecordParts& parts) {
  const TrainedModel& trained = parts.trained;
  const Json result = object_in(trained.job.result);
  const Json detail = object_in(trained.trial.spec.detail);
  const Json& train = at(detail, "train");
  Json record{{"format", kRecordFormat},
              {"function", local_name(trained.job.spec.function)},
              {"job", trained.job.spec.id},
              {"trial", trained.trial.spec.id}};
  if (!trained.score.spec.id.empty()) record["score"] = trained.score.spec.id;
  record["created"] = format_time(parts.now);
  record["trigger"] = {
      {"kind", "manual"}, {"who", trained.author.who}, {"why", trained.author.why}};
  if (parts.parent.value > 0) record["parent"] = parts.parent.value;
  take(record, result, {"goal", "outcome", "why"});
  take(record, parts.report, {"task", "target"});
  take(record, train, {"positive", "group"});
  take(record, parts.report, {"classes", "metric"});
  record["trainer"] = trainer_of(parts.report, train, result);
  record["data"] = Json::array({data_of(parts.data)});
  take(record, parts.report, {"rows", "left_out"});
  record["model"] = {{"sha256", to_string(parts.model)}, {"size", parts.model_size}};
  record["software"] = {{"mayfly", kVersion}, {"runtime", parts.software}};
  record["metrics"] = Json::object();
  take(record["metrics"], "valid", parts.report, "metrics");
  record["confusion"] = Json::object();
  take(record["confusion"], "valid", parts.report, "confusion");
  take(record, result, {"baselines"});
  if (const auto test = result.find("test"); test != result.end() && test->is_object()) {
    take(record["metrics"], "test", *test, "metrics");
    take(record, *test, {"looks", "alpha"});
  }
  if (!trained.score.result.empty()) take_score(record, object_in(trained.score.result));
  take(record, parts.report, {"importance", "parity", "history"});
  take(record, "trials", result, "trials");
  record["cost"] = {{"cpu_s", std::chrono::duration<double>(trained.trial.cpu).count()},
                    {"ran_s", std::chrono::duration<double>(trained.trial.ran).count()}};
  take(record, result, {"cost"});
  if (!parts.gate.is_null()) record["gate"] = parts.gate;
  return record;
}

std::optional<RecordOrigin> origin_of(const Json& record) {
  const auto data = record.find("data");
  if (data == record.end() || !data->is_array() || data->empty() || !data->front().is_object())
    return std::nullopt;
  const Json& first = data->front();
  const std::string dataset = text_at(first, "dataset");
  const std::string task = text_at(record, "task");
  const auto id = first.find("id");
  const auto snapshot = first.find("snapshot");
  const auto rule = first.find("split");
  const bool whole = !dataset.empty() && !task.empty() && id != first.end() &&
                     id->is_number_integer() && snapshot != first.end() &&
                     snapshot->is_number_unsigned() && rule != first.end();
  if (!whole) return std::nullopt;
  auto split = read_split(*rule);
  if (!split) return std::nullopt;
  RecordOrigin found;
  found.origin = {.dataset = fmt::format("{} (id {})", dataset, id->get<std::int64_t>()),
                  .snapshot = snapshot->get<std::uint32_t>(),
                  .split = {},
                  .split_basis = text_at(first, "split_basis"),
                  .by_time = split->by == SplitBy::Time,
                  .test_from = split->test_from,
                  .target = text_at(record, "target"),
                  .task = task};
  // The rule without what follows from it and the rows.
  split->valid_from = split->test_from = std::nullopt;
  found.origin.split = to_json_value(*split).dump();
  found.positive = text_at(record, "positive");
  found.group = text_at(record, "group");
  if (const auto classes = record.find("classes"); classes != record.end() && classes->is_array()) {
    for (const Json& name : *classes)
      if (name.is_string()) found.classes.push_back(name.get<std::string>());
  }
  return found;
}

Result<Json> parse_training_record(std::string_view text) {
  if (text.size() > kMaxTrainingRecord)
    return refuse(reason::kInvalidManifest, "the training record is too long");
  Json record = TRY(parse_json(text, "training record"));
  const auto format = record.is_object() ? record.find("format") : record.end();
  if (!record.is_object() || format == record.end() || *format != kRecordFormat) {
    return refuse(reason::kInvalidManifest,
                  fmt::format("this is no training record of format {}", kRecordFormat));
  }
  return record;
}

}  // namespace mayfly
