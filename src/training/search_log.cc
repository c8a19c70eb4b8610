#include "training/search_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "core/invocation.h"
#include "core/reason.h"
#include "store/digest.h"
#include "training/trial_points.h"

namespace mayfly {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kMostEnds = 4 * kMostTrials;

std::unexpected<Error> damaged_log(std::string_view what) {
  return fail(Code::DataLoss, fmt::format("the log of the training is damaged: {}", what));
}

// NaN is null.
Json number_or_null(double value) { return std::isfinite(value) ? Json(value) : Json(); }

double number_of(const Json* json) {
  return json != nullptr && json->is_number() ? json->get<double>() : kNone;
}

Json describe_end(const TrialEnd& end) {
  Json json{{"trial", end.work.trial}, {"rung", end.work.rung}, {"job", end.job}};
  if (std::isnan(end.said.estimate)) {
    json["reason"] = end.reason;
    json["error"] = end.error;
    return json;
  }
  json["value"] = end.said.estimate;
  json["low"] = number_or_null(end.said.low);
  json["high"] = number_or_null(end.said.high);
  if (end.heading) json["heading"] = *end.heading;
  return json;
}

Result<TrialEnd> read_end(const Json& json) {
  TrialEnd end;
  JsonReader reader(json, "trial", reason::kInternal);
  reader.integer("trial", end.work.trial, 0U, kMostTrials)
      .integer("rung", end.work.rung, 0U, 100U)
      .text("job", end.job)
      .text("reason", end.reason)
      .text("error", end.error);
  end.said.estimate = number_of(reader.value("value"));
  end.said.low = number_of(reader.value("low"));
  end.said.high = number_of(reader.value("high"));
  if (const Json* heading = reader.value("heading"); heading != nullptr && heading->is_number())
    end.heading = heading->get<double>();
  TRY(reader.finish());
  return end;
}

Json describe_stop(const SearchLog& log) {
  return {{"budget", log.stopped}, {"after", log.stopped_after}};
}

Status read_stop(const Json& json, SearchLog& log) {
  std::uint64_t after = 0;
  JsonReader reader(json, "stopped", reason::kInternal);
  reader.text("budget", log.stopped).integer("after", after, std::uint64_t{0}, kMostEnds);
  TRY(reader.finish());
  log.stopped_after = after;
  return {};
}

Json millis_of(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

// What one after the other has shown.
class Count {
 public:
  explicit Count(const TrainPlan& plan) : plan_(plan) {}

  void add(const TrialEnd& end) {
    ++verdict_.candidates;
    const double loss = loss_of(plan_.rule, end);
    if (std::isnan(loss)) return;
    if (!verdict_.best || loss < loss_of(plan_.rule, *verdict_.best)) verdict_.best = end;
  }

  // Whether the best reaches the goal, were this all.
  bool reached() {
    verdict_.bound.reset();
    if (!verdict_.best || !plan_.rule.metric) return false;
    const validation::Interval& said = verdict_.best->said;
    if (std::isnan(said.low) || std::isnan(said.high)) return false;
    const double alpha = kAlphaOfGoals / static_cast<double>(verdict_.candidates);
    const auto bounds = validation::at_alpha(*plan_.rule.metric, said, kAlphaOfTrials, alpha);
    verdict_.bound = validation::pessimistic(*plan_.rule.metric, bounds);
    return plan_.goal && validation::reaches(*plan_.rule.metric, *verdict_.bound, plan_.goal->at);
  }

  Verdict end(SearchEnd how) {
    (void)reached();
    verdict_.end = how;
    return verdict_;
  }

 private:
  const TrainPlan& plan_;
  Verdict verdict_;
};

}  // namespace

double loss_of(const MetricRule& rule, const TrialEnd& end) {
  return rule.higher_is_better ? -end.said.estimate : end.said.estimate;
}

search::Outcome outcome_of(const MetricRule& rule, const TrialEnd& end) {
  search::Outcome outcome{.work = end.work, .loss = loss_of(rule, end)};
  if (end.heading) outcome.heading = rule.higher_is_better ? -*end.heading : *end.heading;
  return outcome;
}

Verdict judge(const TrainPlan& plan, const SearchLog& log) {
  std::map<std::pair<std::uint32_t, std::uint32_t>, const TrialEnd*> known;
  for (const TrialEnd& end : log.ends)
    known.emplace(std::pair(end.work.trial, end.work.rung), &end);
  search::Halving alone(plan.halving);
  Count count(plan);
  while (const auto work = alone.next()) {
    const auto end = known.find({work->trial, work->rung});
    if (end == known.end()) break;
    count.add(*end->second);
    if (count.reached()) return count.end(SearchEnd::Goal);
    alone.report(outcome_of(plan.rule, *end->second));
  }
  if (alone.finished()) return count.end(SearchEnd::Trials);
  Count all(plan);
  for (const TrialEnd& end : log.ends) all.add(end);
  return all.end(log.stopped.empty() ? SearchEnd::NotYet : SearchEnd::Budget);
}

std::string to_json(const SearchLog& log) {
  Json ends = Json::array();
  for (const TrialEnd& end : log.ends) ends.push_back(describe_end(end));
  Json json{{"ends", std::move(ends)}, {"elapsed_ms", millis_of(log.elapsed)}};
  if (!log.stopped.empty()) json["stopped"] = describe_stop(log);
  if (log.code) json["code"] = to_json_value(*log.code);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<SearchLog> parse_search_log(std::string_view text) {
  const Json json = TRY(parse_json(text, "log"));
  SearchLog log;
  std::uint64_t elapsed = 0;
  JsonReader reader(json, "log", reason::kInternal);
  constexpr std::uint64_t kMost = std::uint64_t{1} << 50;
  reader.integer("elapsed_ms", elapsed, 0, kMost);
  const Json* ends = reader.value("ends");
  const Json* stopped = reader.value("stopped");
  const Json* code = reader.value("code");
  TRY(reader.finish());
  if (ends == nullptr || !ends->is_array() || ends->size() > kMostEnds) return damaged_log("ends");
  if (code != nullptr) log.code = TRY(read_train_code(*code));
  for (const Json& end : *ends) log.ends.push_back(TRY(read_end(end)));
  if (stopped != nullptr) TRY(read_stop(*stopped, log));
  log.elapsed = std::chrono::milliseconds(static_cast<std::int64_t>(elapsed));
  return log;
}

std::string decisions_of(const TrainPlan& plan, const SearchLog& log) {
  std::string lines;
  const auto add = [&](const Json& json) {
    lines += json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  };
  add({{"plan", to_json_value(plan)}});
  TrialPoints points(plan);
  for (const TrialEnd& end : log.ends) points.add(end);
  for (std::size_t i = 0; i < log.ends.size(); ++i) {
    if (!log.stopped.empty() && log.stopped_after == i) add({{"stopped", describe_stop(log)}});
    Json end = describe_end(log.ends[i]);
    end["rounds"] = plan.rounds_of(log.ends[i].work.rung);
    end["params"] = points.of(log.ends[i].work.trial);
    add({{"end", std::move(end)}});
  }
  if (!log.stopped.empty() && log.stopped_after >= log.ends.size())
    add({{"stopped", describe_stop(log)}});
  return lines;
}

Result<Decisions> parse_decisions(std::string_view lines) {
  std::optional<TrainPlan> plan;
  SearchLog log;
  while (!lines.empty()) {
    const std::size_t end = std::min(lines.find('\n'), lines.size());
    Json json = TRY(parse_json(lines.substr(0, end), "decision"));
    lines.remove_prefix(std::min(end + 1, lines.size()));
    if (!json.is_object() || json.size() != 1) return damaged_log("a line of it");
    Json& said = json.begin().value();
    if (json.begin().key() == "plan") {
      plan = TRY(parse_train_plan(said.dump()));
    } else if (json.begin().key() == "stopped") {
      TRY(read_stop(said, log));
    } else if (said.is_object()) {
      said.erase("rounds");  // follow from the plan
      said.erase("params");
      log.ends.push_back(TRY(read_end(said)));
    }
  }
  if (!plan) return damaged_log("it has no plan");
  return Decisions{.plan = *std::move(plan), .log = std::move(log)};
}

// The time of the training, so that both stand beside each other; the rest is a digest (RFC 9562
// §5.8 would be version 8; readers know 7, whose random bits these are).
std::string part_id(std::string_view training, std::string_view part) {
  InvocationId id;
  const Digest digest = sha256(fmt::format("{}/{}", training, part));
  std::ranges::copy_n(digest.bytes.begin(), static_cast<std::ptrdiff_t>(id.bytes.size()),
                      id.bytes.begin());
  std::string text = to_string(id);
  if (training.size() != text.size()) return text;
  std::ranges::copy_n(training.begin(), 15, text.begin());  // time and version
  text[19] = "89ab"[static_cast<std::size_t>(id.bytes[8]) & 3U];
  return text;
}

std::string part_of(const search::Work& work) {
  return fmt::format("trial {}, rung {}", work.trial, work.rung);
}

}  // namespace mayfly
