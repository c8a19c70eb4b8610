#include "runner/report/function_training.h"

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr const char* kFactsKey = "train_facts";
constexpr const char* kCheckKey = "train_check";
constexpr const char* kTrainKey = "train_function";

Json value_of(const TrainJob& job) { return parse_json(to_json(job), "train job")->at("train"); }

Result<TrainJob> read_job(const Json& value) {
  const std::string text = Json{{"train", value}}.dump();
  const auto job = TRY(parse_train_job(text));
  if (!job || !is_function(job->trainer))
    return refuse(reason::kBadRequest, "the training is not a function's");
  return *job;
}

}  // namespace

std::string to_json(FunctionStep step, const TrainJob& job) {
  return Json{{step == FunctionStep::Facts ? kFactsKey : kCheckKey, value_of(job)}}.dump();
}

Result<std::optional<FunctionStepJob>> parse_function_step(std::string_view text) {
  const Json json = TRY(parse_json(text, "train job"));
  if (!json.is_object()) return std::nullopt;
  for (const FunctionStep step : {FunctionStep::Facts, FunctionStep::Check}) {
    const auto found = json.find(step == FunctionStep::Facts ? kFactsKey : kCheckKey);
    if (found != json.end()) return FunctionStepJob{.step = step, .job = TRY(read_job(*found))};
  }
  return std::nullopt;
}

std::string to_json(const TrainFunctionJob& job) {
  return Json{{kTrainKey, {{"train", value_of(job.job)}, {"invocation", job.invocation}}}}.dump();
}

Result<std::optional<TrainFunctionJob>> parse_train_function_job(std::string_view text) {
  const Json json = TRY(parse_json(text, "train job"));
  if (!json.is_object() || !json.contains(kTrainKey)) return std::nullopt;
  TrainFunctionJob job;
  JsonReader reader(json[kTrainKey], "train job", reason::kBadRequest);
  reader.text("invocation", job.invocation);
  const Json* train = reader.value("train");
  if (train == nullptr) reader.error("train", "is missing");
  TRY(reader.finish());
  job.job = TRY(read_job(*train));
  return job;
}

}  // namespace mayfly
