#include "runner/report/train_job.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostListedColumns = 10'000;
constexpr std::size_t kMaxTrainError = 8000;

std::unexpected<Error> bad_train_end(std::string_view why) {
  return refuse(reason::kInstanceCrashed, fmt::format("the job broke its protocol: {}", why));
}

template <typename Kind, typename Parse>
void read_kind(JsonReader& reader, const char* key, Kind& kind, Parse parse) {
  std::string name(to_string(kind));
  reader.text(key, name);
  if (const auto found = parse(name)) {
    kind = *found;
  } else {
    reader.error(key, fmt::format("'{}' is none that there is", name));
  }
}

void read_columns(JsonReader& reader, std::vector<std::string>& columns) {
  const Json* list = reader.value("columns");
  if (list == nullptr) return;
  if (!list->is_array() || list->size() > kMostListedColumns)
    return reader.error("columns", "must be a list of names");
  for (const Json& name : *list) {
    if (!name.is_string()) return reader.error("columns", "must be a list of names");
    columns.push_back(name.get<std::string>());
  }
}

}  // namespace

std::string to_json(const TrainJob& job) {
  return Json{{"train",
               {{"trainer", to_string(job.trainer)},
                {"function", job.function},
                {"task", to_string(job.task)},
                {"target", job.target},
                {"group", job.group},
                {"columns", job.columns},
                {"positive", job.positive},
                {"params", job.params},
                {"metric", job.metric},
                {"seed", job.seed},
                {"threads", job.threads},
                {"workers", job.workers},
                {"memory", to_string(job.memory)},
                {"rounds", job.rounds},
                {"model", job.model},
                {"slice", to_string(job.slice)},
                {"checkpoint_every", to_string(job.checkpoint_every)},
                {"restored", job.restored}}}}
      .dump();
}

Result<std::optional<TrainJob>> parse_train_job(std::string_view text) {
  const Json json = TRY(parse_json(text, "train job"));
  if (!json.is_object() || !json.contains("train")) return std::nullopt;
  TrainJob job;
  JsonReader reader(json["train"], "train job", reason::kBadRequest);
  read_kind(reader, "trainer", job.trainer, parse_trainer);
  read_kind(reader, "task", job.task, parse_train_task);
  read_columns(reader, job.columns);
  if (const Json* params = reader.value("params")) job.params = *params;
  reader.text("function", job.function)
      .text("target", job.target)
      .text("group", job.group)
      .text("positive", job.positive)
      .text("metric", job.metric)
      .integer("seed", job.seed, std::uint64_t{0}, ~std::uint64_t{0})
      .integer("threads", job.threads, 1U, 1024U)
      .integer("workers", job.workers, 1U, kMostWorkers)
      .bytes("memory", job.memory, mib(1), gib(std::uint64_t{1} << 20))
      .integer("rounds", job.rounds, 0U, 1'000'000'000U)
      .boolean("model", job.model)
      .duration("slice", job.slice, Duration(0), std::chrono::days(365))
      .duration("checkpoint_every", job.checkpoint_every, Duration(0), std::chrono::days(1))
      .boolean("restored", job.restored);
  if (job.workers > 1 && !trainer_info(job.trainer).several_workers)
    reader.error("workers", "must be 1: this trainer has no others");
  if (is_function(job.trainer) == job.function.empty())
    reader.error("function", "must be named by trainings with one, and by no others");
  TRY(reader.finish());
  return job;
}

std::string to_json(const TrainEnd& end) {
  switch (end.how) {
    case TrainEnd::How::Finished:
      return fmt::format(R"({{"result": {}}})", end.result);
    case TrainEnd::How::Stopped:
      return R"({"stopped": true})";
    case TrainEnd::How::Refused:
      break;
  }
  const Json refused{
      {"refused", {{"reason", end.refused.reason}, {"message", end.refused.message}}}};
  return refused.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<TrainEnd> parse_train_end(std::string_view text) {
  if (text.size() > kMaxTrainEnd) return bad_train_end("end.json is too long");
  const auto json = parse_json(text, "end.json");
  if (!json || !json->is_object() || json->size() != 1) return bad_train_end("end.json is none");
  const std::string key = json->begin().key();
  const Json& said = json->begin().value();
  if (key == "result" && said.is_object())
    return TrainEnd{.how = TrainEnd::How::Finished, .result = said.dump()};
  if (key == "stopped" && said == true) return TrainEnd{.how = TrainEnd::How::Stopped};
  if (key != "refused" || !said.is_object()) return bad_train_end("end.json says nothing");
  TrainEnd end{.how = TrainEnd::How::Refused};
  JsonReader reader(said, "end.json", reason::kInstanceCrashed);
  reader.text("reason", end.refused.reason).text("message", end.refused.message);
  TRY(reader.finish());
  if (find_reason(end.refused.reason) == nullptr)
    return bad_train_end("end.json has a reason that is none");
  end.refused.message.resize(std::min(end.refused.message.size(), kMaxTrainError));
  return end;
}

}  // namespace mayfly
