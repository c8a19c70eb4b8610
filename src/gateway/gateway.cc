#include "gateway/gateway.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

#include "core/caller_reason.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/wire/model_metadata.h"
#include "core/wire/tf_metadata.h"
#include "gateway/access.h"
#include "gateway/protocol_words.h"

namespace mayfly {
namespace {

Response json_text(std::string text, int status = 200) {
  return {
      .status = status, .headers = {{"Content-Type", "application/json"}}, .body = std::move(text)};
}

Credentials credentials_of(const Exchange& exchange) {
  return {.authorization = exchange.head().headers.find("Authorization"),
          .certificate = exchange.peer_certificate()};
}

// What an admitted request is about, as its client calls it.
std::string subject_of(const Route& route) {
  const bool by_id =
      route.endpoint == Endpoint::CreateKey || route.endpoint == Endpoint::RevokeKey ||
      route.endpoint == Endpoint::CreateProject || route.endpoint == Endpoint::SetQuotas ||
      route.endpoint == Endpoint::SetSecret || route.endpoint == Endpoint::DeleteSecret ||
      route.endpoint == Endpoint::TrustSigningKey || route.endpoint == Endpoint::RevokeSigningKey ||
      route.endpoint == Endpoint::CancelEvent || route.endpoint == Endpoint::RedriveEvent ||
      route.endpoint == Endpoint::RedeliverEvent ||
      (route.endpoint >= Endpoint::CancelJob && route.endpoint <= Endpoint::ResumeJob) ||
      (route.endpoint >= Endpoint::CreateSchedule && route.endpoint <= Endpoint::RunSchedule);
  if (route.endpoint == Endpoint::EraseSnapshot)
    return std::string(local_name(route.name)) + "@" + route.version;
  return by_id ? route.version : std::string(local_name(route.name));
}

std::vector<VersionNumber> version_numbers(const FunctionEntry& function) {
  std::vector<VersionNumber> numbers;
  for (const VersionEntry& version : function.versions) numbers.push_back(version.number);
  return numbers;
}

}  // namespace

Status Gateway::check(const RequestHead& head, const RouteResult& found) const {
  const std::string_view host = head.headers.find("Host").value_or(head.host);
  const std::string_view origin = head.headers.find("Origin").value_or("");
  // A browser shows a certificate by itself, whoever's page asks it to.
  const bool by_browser = found.route && found.route->caller &&
                          found.route->caller->means == Principal::Means::Certificate;
  if (by_browser || (found.route && is_control(found.route->endpoint)))
    TRY(check_origin(policy_, origin, host));
  if (found.route) return {};
  if (found.error == RouteError::WrongMethod) {
    return refuse(reason::kMethodNotAllowed,
                  fmt::format("{} is not allowed here; use {}", head.method_text.substr(0, 20),
                              found.allowed));
  }
  return refuse(reason::kNotFound, "Not Found");
}

// Pages of the web that a browser shows beside the node have no key, so that the name by which it
// is asked matters only while none is needed.
Status Gateway::admit_caller(const Exchange& exchange, Door door, RouteResult& found) {
  const RequestHead& head = exchange.head();
  Callers& callers = parts_.callers;
  if (!callers.closed()) {
    TRY(check_host(policy_, head.headers.find("Host").value_or(head.host)));
  }
  const bool open = found.route && needs_of(found.route->endpoint) == Needs::Open;
  PrincipalRef caller = callers.owner();
  if (door == Door::Network) {
    auto who = callers.who(credentials_of(exchange));
    if (!who && !open) return std::unexpected(std::move(who).error());
    caller = who ? *std::move(who) : callers.stranger();
  }
  if (found.route) found.route->caller = caller;
  TRY(check(head, found));
  Route& route = *found.route;
  route.name = TRY(admit(*caller, needs_of(route.endpoint), route.name));
  return {};
}

Response Gateway::refusal(const Error& error, const RouteResult& found) const {
  const bool known = found.route && found.route->caller;
  const std::string_view project = known ? found.route->caller->project : kDefaultProject;
  Response response =
      error_response(http_status(error), without_project(project, error.message), error.reason);
  if (error.reason == reason::kMethodNotAllowed) response.headers.add("Allow", found.allowed);
  if (error.reason == reason::kUnauthenticated)
    response.headers.add("WWW-Authenticate", "Bearer realm=\"mayfly\"");
  return response;
}

Task<void> Gateway::handle(Exchange& exchange, Door door) {
  const RequestHead& head = exchange.head();
  const std::string_view origin = head.headers.find("Origin").value_or("");
  if (head.method == Method::Options && !cors_origin(policy_, origin).empty()) {
    co_await answer_preflight(exchange, origin);
    co_return;
  }
  RouteResult found = find_route(head.method_text, head.path());
  Status admitted = admit_caller(exchange, door, found);
  const auto authorization = head.headers.find("Authorization");
  if (!admitted && parts_.callers.may_learn(authorization)) {
    co_await parts_.callers.learn(std::string(*authorization));
    admitted = admit_caller(exchange, door, found);
  }
  if (!admitted) {
    co_return co_await refuse_exchange(exchange, found, std::move(admitted).error());
  }
  co_await serve(exchange, *std::move(found.route));
}

Task<void> Gateway::refuse_exchange(Exchange& exchange, const RouteResult& found, Error error) {
  parts_.metrics.refused(error.reason);
  Response response = refusal(error, found);
  if (found.route) {
    const Route& asked = *found.route;
    const Status outcome = std::unexpected(std::move(error));
    // As it was sent: what it would mean is not settled.
    co_await note(exchange, asked, asked.name.empty() ? asked.version : asked.name, outcome);
  }
  allow_origin(response.headers,
               cors_origin(policy_, exchange.head().headers.find("Origin").value_or("")));
  (void)co_await exchange.respond(std::move(response));
}

Task<void> Gateway::note(const Exchange& exchange, const Route& route, std::string subject,
                         const Status& outcome) {
  const std::string_view action = action_of(route.endpoint);
  if (action.empty()) co_return;
  AuditEntry entry{.project = route.project,
                   .who = route.caller ? route.caller->name : "",
                   .from = address_of(exchange.peer()),
                   .action = std::string(action),
                   .subject = std::move(subject),
                   .outcome = outcome_of(outcome)};
  if (!route.caller) {
    parts_.callers.audit_stranger(std::move(entry));
    co_return;
  }
  if (entry.project.empty()) entry.project = route.caller->project;
  co_await parts_.callers.audit(std::move(entry));
}

Status Gateway::may_go_on(const Exchange& exchange, const Route& route) const {
  if (route.caller->means == Principal::Means::Socket) return {};
  const PrincipalRef caller = TRY(parts_.callers.still(credentials_of(exchange)));
  const std::string_view name = local_name(route.name);
  return check_access(*caller, needs_of(route.endpoint), name.substr(0, name.find('@')));
}

Task<void> Gateway::answer_preflight(Exchange& exchange, std::string_view origin) {
  Response response{.status = 204, .headers = {}, .body = ""};
  response.headers.add("Access-Control-Allow-Origin", origin);
  response.headers.add("Access-Control-Allow-Methods", routed_methods());
  response.headers.add(
      "Access-Control-Allow-Headers",
      "Authorization, Content-Type, Inference-Header-Content-Length, X-Request-Id, Mayfly-Key, "
      "traceparent, tracestate, Upload-Offset, Upload-Length, Prefer, Idempotency-Key");
  response.headers.add("Access-Control-Max-Age", "600");
  response.headers.add("Vary", "Origin");
  (void)co_await exchange.respond(std::move(response));
}

Task<void> Gateway::serve(Exchange& exchange, Route route) {
  const std::string_view origin =
      cors_origin(policy_, exchange.head().headers.find("Origin").value_or(""));
  const std::optional<Protocol> protocol = protocol_of(route.endpoint);
  const bool may_wait =
      route.endpoint != Endpoint::Generate && route.endpoint != Endpoint::GenerateStream;
  if (protocol && !(may_wait && EventApi::wanted(exchange.head()))) {
    co_return co_await parts_.predictions.handle(exchange, route, *protocol, origin);
  }
  if (route.endpoint == Endpoint::Deploy) {
    Status streamed = co_await parts_.control.deploy(
        exchange, route, origin,
        [&](const Status& outcome) { return note(exchange, route, subject_of(route), outcome); });
    if (streamed) co_return;
    co_return co_await answer_error(exchange, route, std::move(streamed).error());
  }
  if (route.endpoint == Endpoint::FunctionLogs) {
    Status followed = co_await parts_.control.follow_logs(
        exchange, route, origin, [&] { return may_go_on(exchange, route); });
    if (followed) co_return;
    co_return co_await answer_error(exchange, route, std::move(followed).error());
  }
  if (route.endpoint == Endpoint::JobEvents) {
    Status followed = co_await parts_.jobs.follow(exchange, route, origin,
                                                  [&] { return may_go_on(exchange, route); });
    if (followed) co_return;
    co_return co_await answer_error(exchange, route, std::move(followed).error());
  }
  if (route.endpoint == Endpoint::JobResultFile || route.endpoint == Endpoint::VersionFile) {
    Status sent = route.endpoint == Endpoint::VersionFile
                      ? co_await parts_.signing.send_file(exchange, route, origin)
                      : co_await parts_.jobs.send_file(exchange, route, origin);
    if (sent) co_return;
    co_return co_await answer_error(exchange, route, std::move(sent).error());
  }
  auto answered = co_await answer(exchange, route);
  if (!answered) co_return co_await answer_error(exchange, route, std::move(answered).error());
  co_await note(exchange, route, subject_of(route), {});
  allow_origin(answered->headers, origin);
  (void)co_await exchange.respond(*std::move(answered));
}

Task<void> Gateway::answer_error(Exchange& exchange, const Route& route, Error error) {
  RouteResult found;
  found.route = route;
  Response response = refusal(error, found);
  const Status outcome = std::unexpected(std::move(error));
  co_await note(exchange, route, subject_of(route), outcome);
  allow_origin(response.headers,
               cors_origin(policy_, exchange.head().headers.find("Origin").value_or("")));
  (void)co_await exchange.respond(std::move(response));
}

Task<Result<Response>> Gateway::answer(Exchange& exchange, Route& route) {
  switch (route.endpoint) {
    case Endpoint::Infer:
    case Endpoint::Invoke:
    case Endpoint::TfPredict:
      co_return co_await parts_.events.accept(exchange, route);
    case Endpoint::ListEvents:
    case Endpoint::EventReply:
    case Endpoint::EventState:
    case Endpoint::CancelEvent:
    case Endpoint::RedriveEvent:
    case Endpoint::RedeliverEvent:
      co_return co_await parts_.events.call(exchange, route);
    case Endpoint::SubmitJob:
    case Endpoint::ListJobs:
    case Endpoint::DescribeJob:
    case Endpoint::CancelJob:
    case Endpoint::PauseJob:
    case Endpoint::ResumeJob:
      co_return co_await parts_.jobs.call(exchange, route);
    case Endpoint::ListDatasets:
    case Endpoint::DescribeDataset:
    case Endpoint::CreateSnapshot:
    case Endpoint::DescribeSnapshot:
    case Endpoint::EraseSnapshot:
      co_return co_await parts_.datasets.call(exchange, route);
    case Endpoint::CreateTraining:
      co_return co_await parts_.trainings.create(exchange, route);
    case Endpoint::ListSchedules:
    case Endpoint::CreateSchedule:
    case Endpoint::ShowSchedule:
    case Endpoint::DeleteSchedule:
    case Endpoint::PauseSchedule:
    case Endpoint::ResumeSchedule:
    case Endpoint::RunSchedule:
      co_return co_await parts_.schedules.call(exchange, route);
    case Endpoint::CreateKey:
    case Endpoint::ListKeys:
    case Endpoint::RevokeKey:
    case Endpoint::ShowAudit:
    case Endpoint::ListProjects:
    case Endpoint::CreateProject:
    case Endpoint::SetQuotas:
      co_return co_await parts_.identity.call(exchange, route);
    case Endpoint::ListSecrets:
    case Endpoint::SetSecret:
    case Endpoint::DeleteSecret:
      co_return co_await parts_.secrets.call(exchange, route);
    case Endpoint::ShowWebhookKey:
    case Endpoint::RotateWebhookKey:
      co_return co_await parts_.webhooks.call(exchange, route);
    case Endpoint::ListSigningKeys:
    case Endpoint::CreateSigningKey:
    case Endpoint::TrustSigningKey:
    case Endpoint::RevokeSigningKey:
    case Endpoint::ExportVersion:
      co_return co_await parts_.signing.call(exchange, route);
    case Endpoint::BlobState:
      co_return co_await parts_.blobs.state(route.caller->project, route.version);
    case Endpoint::BlobAppend:
      co_return co_await parts_.blobs.append(exchange, route.caller->project, route.version);
    case Endpoint::BlobUpload:
      co_return co_await parts_.blobs.create(exchange, route.caller->project);
    case Endpoint::Metrics:
      co_return co_await metrics(exchange, route);
    default:
      co_return co_await answer_protocol(exchange, route);
  }
}

Task<Result<Response>> Gateway::answer_protocol(Exchange& exchange, const Route& route) {
  switch (route.endpoint) {
    case Endpoint::ServerLive:
      co_return json_text(server_live_json());
    case Endpoint::ServerReady: {
      const bool ready = parts_.ready();
      co_return json_text(server_ready_json(ready ? Readiness::Yes : Readiness::No),
                          ready ? 200 : 503);
    }
    case Endpoint::ModelMetadata:
      co_return co_await model_metadata(route);
    case Endpoint::ModelReady:
      co_return co_await model_ready(route);
    case Endpoint::ServerMetadata:
    case Endpoint::ModelConfig:
    case Endpoint::ModelStatistics:
    case Endpoint::RepositoryIndex:
    case Endpoint::RepositoryLoad:
    case Endpoint::RepositoryUnload:
    case Endpoint::ListClientMemory:
    case Endpoint::AddClientMemory:
    case Endpoint::RemoveClientMemory:
    case Endpoint::CudaSharedMemory:
    case Endpoint::Logging:
    case Endpoint::Tracing:
      co_return co_await parts_.protocol.call(exchange, route);
    case Endpoint::TfModelStatus:
      co_return tf_model_status(route);
    case Endpoint::TfModelMetadata:
      co_return co_await tf_model_metadata(route);
    case Endpoint::TfUnsupported:
      co_return refuse(reason::kUnsupported,
                       "':classify' and ':regress' take tf.Example records, which this node does "
                       "not serve; send tensors to ':predict'");
    default:
      co_return co_await parts_.control.call(exchange, route);
  }
}

// Of the data plane, of events and of jobs.
Task<Result<Response>> Gateway::metrics(Exchange& exchange, const Route& route) {
  CO_TRY(Response response, co_await parts_.control.call(exchange, route));
  std::get<std::string>(response.body) += co_await parts_.schedules.metrics();
  std::get<std::string>(response.body) += co_await parts_.jobs.metrics();
  co_return response;
}

Task<Result<Response>> Gateway::model_metadata(const Route& route) {
  const auto resolved = parts_.catalog.resolve(route.name, route.version);
  if (!resolved) {
    co_return std::unexpected(in_protocol_words(resolved.error(), route.name, route.version));
  }
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(*resolved));
  const std::vector<VersionNumber> versions = version_numbers(*resolved->function);
  co_return json_text(model_metadata_json({.name = serving->name(),
                                           .versions = versions,
                                           .runtime = serving->manifest->options.runtime,
                                           .signature = serving->signature()}));
}

// Ready: the next request can be served, if need be from zero.
Task<Result<Response>> Gateway::model_ready(const Route& route) {
  const auto found = co_await parts_.catalog.find(route.name, route.version);
  if (!found)
    co_return std::unexpected(in_protocol_words(found.error(), route.name, route.version));
  const ServingRef& serving = *found;
  const bool ready = parts_.ready();
  co_return json_text(model_ready_json(serving->name(), ready ? Readiness::Yes : Readiness::No),
                      ready ? 200 : 503);
}

// Every version of the function, or the one that is named.
Result<Response> Gateway::tf_model_status(const Route& route) const {
  const auto resolved = parts_.catalog.resolve(route.name, route.version);
  if (!resolved)
    return std::unexpected(in_tensorflow_words(resolved.error(), route.name, route.version));
  const bool names_one = !route.version.empty() || route.name.find('@') != std::string::npos;
  const std::vector<VersionNumber> versions =
      names_one ? std::vector{resolved->version->number} : version_numbers(*resolved->function);
  return json_text(tf_model_status_json(versions));
}

Task<Result<Response>> Gateway::tf_model_metadata(const Route& route) {
  const auto found = co_await parts_.catalog.find(route.name, route.version);
  if (!found)
    co_return std::unexpected(in_tensorflow_words(found.error(), route.name, route.version));
  const Serving& serving = **found;
  co_return json_text(tf_model_metadata_json(
      {.name = serving.name(), .version = serving.version, .signature = serving.signature()}));
}

}  // namespace mayfly
