#include "gateway/schedule_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/names.h"
#include "core/printable.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "events/event.h"
#include "gateway/access.h"
#include "gateway/control_api.h"
#include "gateway/event_api.h"
#include "identity/base64url.h"

namespace mayfly {
namespace {

constexpr std::string_view kJsonType = "application/json";
constexpr std::size_t kLongestType = 255;
constexpr std::size_t kRunsShown = 20;
constexpr std::size_t kLongWish = 64 * 1024;     // is parsed on a pool
constexpr std::size_t kLongestJob = 256 * 1024;  // more than any that would be taken

// What a client wants to have scheduled.
struct ScheduleWish {
  Schedule schedule;
  std::string payload;
};

std::unexpected<Error> wrong(std::string_view key, std::string_view complaint) {
  return refuse(reason::kInvalidSetting, fmt::format("{}: {}", key, complaint));
}

// RFC 4648's first alphabet, with its padding or without.
Result<std::string> decode_payload(std::string text) {
  std::ranges::replace(text, '+', '-');
  std::ranges::replace(text, '/', '_');
  while (text.ends_with('=') && text.size() % 4 == 0) text.pop_back();
  while (text.ends_with('=')) text.pop_back();
  if (auto bytes = decode_base64url(text)) return *std::move(bytes);
  return wrong("payload_base64", "this is no base64");
}

Result<std::string> payload_of(const Json* json, std::string base64, const std::string& type) {
  if (base64.empty()) return json == nullptr ? "{}" : json->dump();
  if (json != nullptr) return wrong("payload", "name either payload or payload_base64");
  if (type.empty()) return wrong("content_type", "say what payload_base64 is, as image/png");
  return decode_payload(std::move(base64));
}

Status check_payload_type(std::string_view type) {
  const auto visible = [](char c) { return c >= ' ' && c <= '~'; };
  if (type.size() <= kLongestType && std::ranges::all_of(type, visible)) return {};
  return wrong("content_type", fmt::format("at most {} visible characters", kLongestType));
}

Result<ScheduleTarget::Kind> job_kind(const Json& job) {
  const auto kind = job.is_object() ? job.find("kind") : job.end();
  for (const auto known : {ScheduleTarget::Kind::Batch, ScheduleTarget::Kind::Run}) {
    if (kind != job.end() && *kind == to_string(known)) return known;
  }
  return wrong("job", "kind must be \"run\" or \"batch\"");
}

Result<ScheduleWish> parse_schedule_wish(const std::string& text) {
  const Json json = TRY(parse_json(text, "body"));
  JsonReader reader(json, "body", reason::kInvalidSetting);
  ScheduleWish wish;
  Schedule& schedule = wish.schedule;
  schedule.timezone = "UTC";
  std::string missed(to_string(MissedRuns::One));
  std::string overlap(to_string(OverlappingRuns::Skip));
  std::string base64;
  reader.text("name", schedule.name).text("function", schedule.target.name);
  reader.text("cron", schedule.cron).text("timezone", schedule.timezone);
  reader.text("content_type", schedule.content_type).text("payload_base64", base64);
  reader.text("missed", missed).text("overlap", overlap).boolean("paused", schedule.paused);
  const Json* payload = reader.value("payload");
  const Json* job = reader.value("job");
  TRY(reader.finish());
  if (const auto name = FunctionName::parse(schedule.name); !name)
    return wrong("name", "spell it like a function's: a-z, 0-9, '.', '_' and '-', at most 63");
  if (schedule.target.name.empty()) return wrong("function", "say which one is to run");
  if (schedule.cron.empty()) return wrong("cron", "say when, as in '0 2 * * *' or @daily");
  const auto policy = parse_missed_runs(missed);
  if (!policy) return wrong("missed", "one (a single run for all that were missed) or skip");
  schedule.missed = *policy;
  const auto overlapping = parse_overlapping_runs(overlap);
  if (!overlapping) return wrong("overlap", "skip (a run is passed over) or allow");
  schedule.overlap = *overlapping;
  TRY(check_payload_type(schedule.content_type));
  if (job != nullptr) {
    if (payload != nullptr || !base64.empty() || !schedule.content_type.empty())
      return wrong("job", "a job has no payload; what it is given stands in the job");
    schedule.target.kind = TRY(job_kind(*job));
    wish.payload = job->dump();
    if (wish.payload.size() > kLongestJob)
      return refuse(reason::kTooLarge, fmt::format("job: longer than {} bytes", kLongestJob));
  } else {
    wish.payload = TRY(payload_of(payload, std::move(base64), schedule.content_type));
  }
  if (schedule.content_type.empty()) schedule.content_type = kJsonType;
  return wish;
}

std::string function_of(const Schedule& schedule) {
  return std::string(local_name(lane_of(schedule)));
}

// A run is an event, or a job.
std::string_view word_of_run(const Schedule& schedule) {
  return schedule.target.is_job() ? "job" : "event";
}

Json run_json(const Schedule& schedule, const ScheduleRun& run) {
  Json about{{"planned", format_time(run.planned)},
             {"at", format_time(run.at)},
             {"outcome", to_string(run.outcome)}};
  if (!run.event.empty()) about[word_of_run(schedule)] = run.event;
  if (!run.reason.empty()) {
    about["reason"] = run.reason;
    about["error"] = without_project(schedule.project, run.message);
  }
  return about;
}

}  // namespace

Json ScheduleApi::describe(const Schedule& schedule) const {
  const std::string name = qualified_name(schedule.project, schedule.target.name);
  Json about{{"name", schedule.name},
             {"kind", to_string(schedule.target.kind)},
             {"function", schedule.target.name},
             {"function_exists", parts_.catalog.resolve(name, "").has_value()},
             {"cron", schedule.cron},
             {"timezone", schedule.timezone},
             {"missed", to_string(schedule.missed)},
             {"overlap", to_string(schedule.overlap)},
             {"paused", schedule.paused},
             {"content_type", schedule.content_type},
             {"payload_sha256", to_string(schedule.payload)},
             {"created", format_time(schedule.created)},
             {"caller", schedule.caller}};
  if (schedule.input) about["input_sha256"] = to_string(*schedule.input);
  if (schedule.next) about["next"] = format_time(*schedule.next);
  if (schedule.last) about["last"] = run_json(schedule, *schedule.last);
  return about;
}

EventEngine::Submission ScheduleApi::submission(const Catalog& catalog, const Schedule& schedule) {
  const std::string lane = lane_of(schedule);
  const auto function = catalog.table()->find(lane);
  const FunctionSettings settings = function == nullptr ? FunctionSettings() : *function->settings;
  const EventRequest request{.target = "/functions/" + schedule.target.name,
                             .headers = {{"Content-Type", schedule.content_type}},
                             .project = schedule.project,
                             .caller = schedule.caller,
                             .request_id = ""};
  return event_submission(request, lane, settings);
}

Task<std::string> ScheduleApi::metrics() {
  const auto queue = co_await parts_.engine.overview();
  EventMetrics::Gauges gauges{
      .queue = {}, .schedule_runs = parts_.scheduler.runs(), .now = parts_.engine.now()};
  if (queue) gauges.queue = *queue;
  if (const auto unsettled = co_await parts_.deliveries.unsettled()) gauges.deliveries = *unsettled;
  co_return parts_.engine.metrics().expose(gauges);
}

Task<Result<Response>> ScheduleApi::call(Exchange& exchange, Route& route) {
  if (route.endpoint == Endpoint::ListSchedules) co_return co_await list(route);
  if (route.endpoint == Endpoint::CreateSchedule) co_return co_await create(exchange, route);
  CO_TRY(Schedule schedule, co_await find(route));
  switch (route.endpoint) {
    case Endpoint::DeleteSchedule: {
      CO_TRY(const Schedule removed, co_await parts_.scheduler.remove(std::move(schedule)));
      co_return json_response({{"deleted", removed.name}});
    }
    case Endpoint::PauseSchedule: {
      CO_TRY(const Schedule paused, co_await parts_.scheduler.pause(std::move(schedule)));
      co_return json_response(describe(paused));
    }
    case Endpoint::ResumeSchedule: {
      CO_TRY(const Schedule resumed, co_await parts_.scheduler.resume(std::move(schedule)));
      co_return json_response(describe(resumed));
    }
    case Endpoint::RunSchedule:
      co_return co_await run(std::move(schedule));
    default:
      co_return co_await show(std::move(schedule));
  }
}

Task<Result<Schedule>> ScheduleApi::find(const Route& route) {
  const Principal& caller = *route.caller;
  auto found = co_await parts_.scheduler.find(caller.project, route.version);
  if (found && !check_access(caller, Needs::Describe, function_of(*found))) {
    co_return refuse(reason::kNotFound,
                     fmt::format("there is no schedule '{}'", printable(route.version, 64)));
  }
  CO_TRY(Schedule schedule, std::move(found));
  CO_TRY_STATUS(check_access(caller, needs_of(route.endpoint), function_of(schedule)));
  co_return schedule;
}

// Who schedules a function both changes how it runs and calls it.
Task<Result<Response>> ScheduleApi::create(Exchange& exchange, Route& route) {
  const Principal& caller = *route.caller;
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  const auto parse = [&] { return parse_schedule_wish(text); };
  CO_TRY(ScheduleWish wish,
         text.size() > kLongWish ? co_await parts_.parse_pool.run(parse) : parse());
  Schedule& schedule = wish.schedule;
  route.version = schedule.name;
  schedule.project = caller.project;
  schedule.caller = caller.name;
  CO_TRY(const std::string qualified, admit(caller, Needs::Configure, schedule.target.name));
  CO_TRY_STATUS(check_access(caller, Needs::Invoke, function_of(schedule)));
  CO_TRY_STATUS(parts_.catalog.resolve(qualified, ""));
  CO_TRY(const Schedule made, co_await keep(std::move(schedule), std::move(wish.payload)));
  Response response = json_response(describe(made), 201);
  response.headers.add("Location", "/api/v1/schedules/" + made.name);
  co_return response;
}

Task<Result<Schedule>> ScheduleApi::keep(Schedule schedule, std::string payload) {
  if (!schedule.target.is_job())
    co_return co_await parts_.scheduler.create(std::move(schedule), std::move(payload));
  CO_TRY(Json wanted, parse_json(payload, "job"));
  JobApi::Request asked{.function = qualified_name(schedule.project, schedule.target.name),
                        .project = schedule.project,
                        .caller = schedule.caller,
                        .wanted = std::move(wanted),
                        .id = ""};
  CO_TRY(const JobApi::Prepared prepared, co_await parts_.jobs.prepare(std::move(asked)));
  if (!prepared.inputs.empty()) schedule.input = prepared.inputs.front().digest;
  co_return co_await parts_.scheduler.create(std::move(schedule), std::move(payload));
}

Task<Result<Response>> ScheduleApi::list(const Route& route) {
  CO_TRY(const std::vector<Schedule> all, co_await parts_.scheduler.list(route.caller->project));
  Json schedules = Json::array();
  for (const Schedule& schedule : all) {
    if (check_access(*route.caller, Needs::Describe, function_of(schedule)))
      schedules.push_back(describe(schedule));
  }
  co_return json_response({{"schedules", std::move(schedules)}});
}

// With its last runs, and what became of their events or jobs.
Task<Result<Response>> ScheduleApi::show(Schedule schedule) {
  CO_TRY(const auto last_runs, co_await parts_.scheduler.last_runs(schedule, kRunsShown));
  Json about = describe(schedule);
  Json runs = Json::array();
  for (const ScheduleEngine::Run& run : last_runs) {
    runs.push_back(run_json(schedule, run.run));
    if (!run.state.empty()) runs.back()["state"] = run.state;
  }
  if (!runs.empty()) about["last"] = runs.front();
  about["runs"] = std::move(runs);
  co_return json_response(about);
}

Task<Result<Response>> ScheduleApi::run(Schedule schedule) {
  const bool is_job = schedule.target.is_job();
  CO_TRY(const std::string id, co_await parts_.scheduler.run_now(std::move(schedule)));
  if (is_job) {
    CO_TRY(const JobRecord job, co_await parts_.job_engine.find(id));
    co_return accepted_job(job);
  }
  CO_TRY(const WorkItem item, co_await parts_.engine.find(id));
  co_return accepted_event(item);
}

}  // namespace mayfly
