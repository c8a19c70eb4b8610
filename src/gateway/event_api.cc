#include "gateway/event_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "core/destination.h"
#include "core/event_reason.h"
#include "core/json_reader.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "events/event.h"
#include "gateway/body.h"
#include "gateway/control_api.h"
#include "gateway/stored_exchange.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxKey = 255;
constexpr std::size_t kMostListed = 1000;

// What says how the body is to be read and what it is a part of. Nothing else is kept: headers also
// carry secrets.
constexpr std::array<std::string_view, 6> kKept = {
    "Content-Type", "Inference-Header-Content-Length", "Mayfly-Key", "X-Request-Id", "traceparent",
    "tracestate"};

EventHeaders kept_headers(const Headers& headers, std::string_view sticky) {
  EventHeaders kept;
  const auto keep = [&](std::string_view name) {
    if (const auto value = headers.find(name)) kept.emplace_back(name, *value);
  };
  for (const std::string_view name : kKept) keep(name);
  if (!sticky.empty()) keep(sticky);
  return kept;
}

Result<std::string> idempotency_key(const Headers& headers) {
  std::string key(headers.find("Idempotency-Key").value_or(""));
  const auto visible = [](char c) { return c >= ' ' && c <= '~'; };
  if (key.size() <= kMaxKey && std::ranges::all_of(key, visible)) return key;
  return refuse(reason::kBadRequest,
                fmt::format("Idempotency-Key must be at most {} visible characters", kMaxKey));
}

std::string place_of(std::string_view id) { return fmt::format("/api/v1/events/{}", id); }

bool is_gone(const WorkItem& item, WallTime now) {
  return item.cleared || (item.state == WorkState::Done && item.ended + item.spec.keep <= now);
}

Json describe(const WorkItem& item) {
  Json about{{"id", item.spec.id},
             {"function", local_name(item.spec.lane)},
             {"state", to_string(item.state)},
             {"attempts", item.attempts},
             {"max_attempts", item.spec.max_attempts},
             {"accepted", format_time(item.spec.accepted)},
             {"expires", format_time(item.spec.expires)}};
  if (const auto request = parse_event_request(item.spec.detail)) {
    about["request_id"] = request->request_id.empty() ? item.spec.id : request->request_id;
    about["caller"] = request->caller;
  }
  if (!item.spec.key.empty()) about["idempotency_key"] = item.spec.key;
  if (item.state == WorkState::Waiting) about["due"] = format_time(item.due);
  if (is_over(item.state)) about["ended"] = format_time(item.ended);
  if (item.state == WorkState::Done && !item.cleared) {
    about["result"] = place_of(item.spec.id);
    about["result_until"] = format_time(item.ended + item.spec.keep);
  }
  if (!item.reason.empty()) {
    about["reason"] = item.reason;
    about["error"] = without_project(project_of(item.spec.lane), item.message);
  }
  return about;
}

Json describe(const Delivery& delivery) {
  const auto destination = parse_destination(delivery.destination);
  Json about{{"id", to_string(delivery.key)},
             {"destination", destination ? destination->shown() : "?"},
             {"of", to_string(delivery.end)},
             {"state", to_string(delivery.state)},
             {"attempts", delivery.attempts}};
  if (delivery.state == DeliveryState::Waiting) about["due"] = format_time(delivery.due);
  if (delivery.settled != WallTime()) about["settled"] = format_time(delivery.settled);
  if (!delivery.error.empty()) about["last_error"] = delivery.error;
  return about;
}

void add_state(Headers& headers, const WorkItem& item) {
  headers.add("Mayfly-Event", item.spec.id);
  headers.add("Mayfly-Event-State", to_string(item.state));
  headers.add("Mayfly-Event-Attempts", std::to_string(item.attempts));
}

// Of what is over and has no result.
std::unexpected<Error> no_result(const WorkItem& item) {
  const std::string last =
      item.reason.empty() ? "" : fmt::format(": {}: {}", item.reason, item.message);
  switch (item.state) {
    case WorkState::Dead:
      return refuse(reason::kEventDead,
                    fmt::format("the event was given up after {} attempt{}{}", item.attempts,
                                item.attempts == 1 ? "" : "s", last));
    case WorkState::Expired:
      return refuse(reason::kEventExpired, fmt::format("the event did not end before {}{}",
                                                       format_time(item.spec.expires), last));
    case WorkState::Cancelled:
      return refuse(reason::kEventCancelled, "the event was cancelled");
    default:
      return refuse(reason::kResultGone, fmt::format("the result was kept for {} and is gone",
                                                     to_string(item.spec.keep)));
  }
}

RequestHead head_of(const EventRequest& request, const std::string& event) {
  RequestHead head;
  head.method = Method::Post;
  head.method_text = "POST";
  head.target = request.target;
  for (const auto& [name, value] : request.headers) head.headers.add(name, value);
  if (request.request_id.empty()) head.headers.add("X-Request-Id", event);
  return head;
}

// Whose crashes count together: those of a project's events, apart from its callers'.
std::string source_of(const EventRequest& request) { return request.project + " events"; }

std::string reply_detail(const StoredExchange& exchange) {
  EventReply reply{.status = exchange.status(), .headers = {}};
  for (std::size_t i = 0; i < exchange.headers().size(); ++i)
    reply.headers.emplace_back(exchange.headers()[i].name, exchange.headers()[i].value);
  return to_json(reply);
}

Result<std::size_t> listed(const Exchange& exchange) {
  const std::string text = exchange.head().query("limit").value_or("100");
  std::size_t limit = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
  if (error == std::errc() && end == text.data() + text.size() && limit >= 1 &&
      limit <= kMostListed) {
    return limit;
  }
  return refuse(reason::kBadRequest, fmt::format("limit must be 1 to {}", kMostListed));
}

Result<std::optional<WorkState>> listed_state(const Exchange& exchange) {
  const std::string text = exchange.head().query("state").value_or("");
  if (text.empty()) return std::nullopt;
  const auto state = parse_work_state(text);
  if (state) return state;
  return refuse(reason::kBadRequest,
                "state must be waiting, running, done, dead, cancelled or expired");
}

Json counts_json(const WorkQueue::Counts& counts) {
  Json about = Json::object();
  for (std::size_t state = 0; state < counts.size(); ++state)
    about[std::string(to_string(static_cast<WorkState>(state)))] = counts[state];
  return about;
}

}  // namespace

// Of two requests with one key: another version, or another protocol, is another question.
Status check_same_target(const std::string& first, const std::string& second) {
  const std::string target = TRY(parse_event_request(first)).target;
  if (target == TRY(parse_event_request(second)).target) return {};
  return refuse(reason::kConflict,
                fmt::format("the Idempotency-Key is that of a request to {}", target));
}

Response accepted_event(const WorkItem& item) {
  Response response = json_response(describe(item), 202);
  response.headers.add("Location", place_of(item.spec.id));
  add_state(response.headers, item);
  return response;
}

EventEngine::Submission event_submission(const EventRequest& request, std::string lane,
                                         const FunctionSettings& settings) {
  return {.lane = std::move(lane),
          .key = "",
          .detail = to_json(request),
          .payload = "",
          .max_attempts = settings.max_attempts,
          .max_age = settings.max_age,
          .result_ttl = settings.result_ttl,
          .max_events = settings.max_events,
          .notices = {.success = settings.on_success, .failure = settings.on_failure}};
}

Result<EventEngine::Submission> EventApi::submission(const Exchange& exchange,
                                                     const Route& route) const {
  const ResolvedVersion resolved = TRY(parts_.catalog.resolve(route.name, route.version));
  const FunctionSettings& settings = *resolved.function->settings;
  const RequestHead& head = exchange.head();
  const std::string& sticky = resolved.function->routing->traffic.sticky_header;
  const EventRequest request{
      .target = std::string(head.path()),
      .headers = kept_headers(head.headers, sticky),
      .project = route.caller->project,
      .caller = route.caller->name,
      .request_id = std::string(head.headers.find("X-Request-Id").value_or(""))};
  EventEngine::Submission submitted =
      event_submission(request, resolved.function->name.str(), settings);
  submitted.key = TRY(idempotency_key(head.headers));
  return submitted;
}

Task<Result<Response>> EventApi::accept(Exchange& exchange, const Route& route) {
  CO_TRY(EventEngine::Submission submitted, submission(exchange, route));
  CO_TRY(BodyReader body, BodyReader::open(exchange, parts_.max_body, "limits.max_body"));
  CO_TRY_STATUS(body.share({.pool = parts_.parse_pool, .budget = parts_.bodies}));
  CO_TRY(submitted.payload, co_await body.read_rest());
  const std::string asked = submitted.detail;
  CO_TRY(const WorkQueue::Enqueued accepted, co_await parts_.engine.accept(std::move(submitted)));
  if (!accepted.fresh) {
    CO_TRY_STATUS(check_same_target(accepted.item.spec.detail, asked));
  }
  Response response = accepted_event(accepted.item);
  response.headers.add("Preference-Applied", "respond-async");
  co_return response;
}

Task<EventEngine::Attempted> EventApi::run(Predictions& predictions, EventEngine::Attempt attempt) {
  EventEngine::Attempted attempted;
  const auto request = parse_event_request(attempt.item.spec.detail);
  if (!request) {
    attempted.outcome = std::unexpected(request.error());
    co_return attempted;
  }
  RouteResult found = find_route("POST", request->target);
  const auto protocol = found.route ? protocol_of(found.route->endpoint) : std::nullopt;
  if (!protocol) {
    attempted.outcome = refuse(reason::kNotFound, "its path predicts nothing any more");
    co_return attempted;
  }
  Route& route = *found.route;
  route.name = qualified_name(request->project, route.name);
  route.caller = std::make_shared<const Principal>(
      Principal{.project = request->project, .name = request->caller, .scopes = {}});
  StoredExchange exchange(head_of(*request, attempt.item.spec.id), std::move(attempt.payload),
                          attempt.cancel);
  EventTry tried{.attempt = {.event = attempt.event, .number = attempt.number},
                 .source = source_of(*request),
                 .outcome = {},
                 .record = {}};
  co_await predictions.handle(exchange, route, *protocol, "", &tried);
  attempted.outcome = std::move(tried.outcome);
  attempted.record = std::move(tried.record);
  attempted.detail = reply_detail(exchange);
  attempted.body = exchange.take_reply();
  co_return attempted;
}

Task<Result<WorkItem>> EventApi::find(const Route& route) {
  CO_TRY(WorkItem item, co_await parts_.engine.find(route.version));
  const std::string_view lane = item.spec.lane;
  const bool own = project_of(lane) == route.caller->project &&
                   check_access(*route.caller, needs_of(route.endpoint), local_name(lane));
  if (!own) {
    co_return refuse(reason::kNotFound,
                     fmt::format("there is no event '{}'", route.version.substr(0, 64)));
  }
  co_return item;
}

Task<Result<Response>> EventApi::call(Exchange& exchange, const Route& route) {
  if (route.endpoint == Endpoint::ListEvents) co_return co_await list(exchange, route);
  CO_TRY(WorkItem item, co_await find(route));
  switch (route.endpoint) {
    case Endpoint::CancelEvent: {
      CO_TRY(const WorkItem ended, co_await parts_.engine.cancel(item.spec.id));
      co_return json_response(describe(ended));
    }
    case Endpoint::RedriveEvent:
      co_return co_await redrive(std::move(item));
    case Endpoint::RedeliverEvent: {
      CO_TRY(const Delivery again, co_await parts_.deliveries.again(item.spec.id));
      co_return json_response(describe(again));
    }
    case Endpoint::EventState:
      co_return co_await state(std::move(item));
    default:
      co_return co_await reply(std::move(item));
  }
}

// A function that is deployed again may have other settings than the event was accepted with.
Task<Result<Response>> EventApi::redrive(WorkItem item) {
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(item.spec.lane, ""));
  const FunctionSettings& settings = *resolved.function->settings;
  CO_TRY(const WorkItem again,
         co_await parts_.engine.redrive(std::move(item), settings.max_age, settings.max_events));
  co_return json_response(describe(again));
}

Task<Result<Response>> EventApi::state(WorkItem item) {
  CO_TRY(const std::vector<Delivery> deliveries, co_await parts_.deliveries.of(item.spec.id));
  Json about = describe(item);
  for (const Delivery& delivery : deliveries) about["deliveries"].push_back(describe(delivery));
  co_return json_response(about);
}

Task<Result<Response>> EventApi::reply(WorkItem item) {
  if (!is_over(item.state)) {
    Response response = json_response(describe(item), 202);
    response.headers.add("Retry-After", "1");
    add_state(response.headers, item);
    co_return response;
  }
  const WallTime now = parts_.engine.now();
  if (item.state != WorkState::Done || is_gone(item, now)) co_return no_result(item);
  CO_TRY(const EventReply head, parse_event_reply(item.result->detail));
  CO_TRY(std::string body, co_await parts_.engine.result(item));
  Response response{.status = head.status, .headers = {}, .body = std::move(body)};
  for (const auto& [name, value] : head.headers) response.headers.add(name, value);
  add_state(response.headers, item);
  co_return response;
}

Task<Result<Response>> EventApi::list(const Exchange& exchange, const Route& route) {
  CO_TRY(const FunctionName name, FunctionName::parse(route.name));
  WorkQueue::ListAsk ask{.lane = name.str(),
                         .state = {},
                         .before = exchange.head().query("before").value_or(""),
                         .limit = 0};
  CO_TRY(ask.state, listed_state(exchange));
  CO_TRY(ask.limit, listed(exchange));
  CO_TRY(const WorkQueue::Counts counts, co_await parts_.engine.counts(ask.lane));
  if (parts_.catalog.table()->find(ask.lane) == nullptr && counts == WorkQueue::Counts{}) {
    co_return refuse(reason::kUnknownFunction, fmt::format("no function '{}'", ask.lane));
  }
  CO_TRY(const std::vector<WorkItem> items, co_await parts_.engine.list(ask));
  Json events = Json::array();
  for (const WorkItem& item : items) events.push_back(describe(item));
  co_return json_response({{"function", local_name(ask.lane)},
                           {"counts", counts_json(counts)},
                           {"events", std::move(events)}});
}

}  // namespace mayfly
