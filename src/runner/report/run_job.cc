#include "runner/report/run_job.h"

#include <fmt/format.h>

#include <cmath>

#include "core/json_reader.h"
#include "core/names.h"
#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxRunText = 200;
constexpr std::size_t kMaxRunError = 8000;
constexpr std::size_t kMaxRunMessage = 16 * 1024;

std::unexpected<Error> bad_message(std::string_view why) {
  return refuse(reason::kInstanceCrashed, fmt::format("the job broke its protocol: {}", why));
}

std::optional<double> number_in(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

std::optional<std::string> text_in(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

Result<RunMessage> progress_of(const Json& said) {
  const auto fraction = number_in(said, "fraction");
  const auto text = text_in(said, "text");
  if (!fraction || !text || !std::isfinite(*fraction) || *fraction > 1)
    return bad_message("a progress that is none");
  return RunProgress{.fraction = *fraction < 0 ? -1 : *fraction,
                     .text = printable(*text, kMaxRunText)};
}

Result<RunMessage> metric_of(const Json& said) {
  const auto value = number_in(said, "value");
  const auto name = text_in(said, "name");
  if (!value || !name || !std::isfinite(*value) || name->empty() || name->size() > kMaxRunText)
    return bad_message("a metric that is none");
  return RunMetric{.name = printable(*name, kMaxRunText), .value = *value};
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && name[0] != '.' &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string_view::npos;
}

}  // namespace

std::string to_json(const RunJob& job) {
  return Json{{"run",
               {{"inputs", job.inputs},
                {"threads", job.threads},
                {"restored", job.restored},
                {"invocation", job.invocation}}}}
      .dump();
}

Result<std::optional<RunJob>> parse_run_job(std::string_view text) {
  const Json json = TRY(parse_json(text, "run job"));
  if (!json.is_object() || !json.contains("run")) return std::nullopt;
  RunJob job;
  JsonReader reader(json["run"], "run job", reason::kBadRequest);
  reader.text("inputs", job.inputs)
      .integer("threads", job.threads, 1U, 1024U)
      .boolean("restored", job.restored)
      .text("invocation", job.invocation);
  TRY(reader.finish());
  return job;
}

Result<RunMessage> parse_run_message(std::string_view text) {
  if (text.size() > kMaxRunMessage) return bad_message("a message that is too long");
  const auto json = parse_json(text, "message");
  if (!json || !json->is_object() || json->size() != 1)
    return bad_message("a message that is none");
  const std::string key = json->begin().key();
  const Json& said = json->begin().value();
  if (key == "progress" && said.is_object()) return progress_of(said);
  if (key == "metric" && said.is_object()) return metric_of(said);
  if (key == "checkpoint" && said.is_string() && is_plain_name(said.get<std::string>()))
    return RunCheckpoint{.folder = said.get<std::string>()};
  return bad_message("a message that is none");
}

Result<RunEnd> parse_run_end(std::string_view text) {
  if (text.size() > kMaxRunEnd)
    return refuse(reason::kTooLarge, "the job's result is longer than 1 MiB; write files instead");
  const auto json = parse_json(text, "end.json");
  if (!json || !json->is_object()) return bad_message("end.json is no JSON object");
  if (const auto error = text_in(*json, "error"))
    return RunEnd{
        .how = RunEnd::How::Raised, .result = "", .error = error->substr(0, kMaxRunError)};
  if (json->contains("stopped"))
    return RunEnd{.how = RunEnd::How::Stopped, .result = "", .error = ""};
  if (!json->contains("result")) return bad_message("end.json says nothing");
  return RunEnd{.how = RunEnd::How::Finished, .result = (*json)["result"].dump(), .error = ""};
}

}  // namespace mayfly
