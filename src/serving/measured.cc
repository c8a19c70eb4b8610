#include "serving/measured.h"

#include <utility>

#include "core/json_reader.h"

namespace mayfly {
namespace {

std::uint64_t microseconds(Duration duration) {
  return static_cast<std::uint64_t>(to_us(duration).count());
}

Json candidate_json(const Candidate& candidate) {
  Json json{{"form", to_string(candidate.form)},
            {"prepacked", candidate.prepacking == Prepacking::On}};
  if (!candidate.skipped.empty()) {
    json["skipped"] = candidate.skipped;
    return json;
  }
  json["load_us"] = microseconds(candidate.load);
  // What was not measured is left out: a zero would be a figure.
  if (candidate.warm_run > Duration::zero()) {
    json["first_run_us"] = microseconds(candidate.first_run);
    json["run_us"] = microseconds(candidate.warm_run);
  }
  if (candidate.private_bytes.count > 0) json["private_bytes"] = candidate.private_bytes.count;
  json["artifact_bytes"] = candidate.artifact_bytes.count;
  return json;
}

std::uint64_t figure(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number_unsigned() ? found->get<std::uint64_t>() : 0;
}

}  // namespace

std::string measured_json(const Published& published) {
  const Report& report = published.report;
  Json json = candidate_json(report.candidates.at(report.chosen));
  json["optimised"] = to_string(report.optimisation);
  json["output_bytes"] = report.trial.output_bytes;
  json["weight_bytes"] = report.weight_bytes;
  json["runtime"] = report.runtime_version;
  json["reused"] = published.reused;
  json["publish_peak_bytes"] = published.peak_memory.count;
  if (!report.entries.empty()) json["entries"] = report.entries;
  json["trial"] = {{"input", to_string(report.trial.input)}, {"accepted", report.trial.accepted}};
  Json candidates = Json::array();
  for (const Candidate& candidate : report.candidates)
    candidates.push_back(candidate_json(candidate));
  json["candidates"] = std::move(candidates);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Measured parse_measured(std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return {};
  std::vector<std::string> entries;
  if (const auto said = json.find("entries"); said != json.end() && said->is_array())
    for (const Json& entry : *said)
      if (entry.is_string()) entries.push_back(entry.get<std::string>());
  return {.load = std::chrono::microseconds(figure(json, "load_us") + figure(json, "first_run_us")),
          .private_bytes = Bytes{figure(json, "private_bytes")},
          .artifact_bytes = figure(json, "artifact_bytes"),
          .output_bytes = figure(json, "output_bytes"),
          .entries = std::move(entries)};
}

}  // namespace mayfly
