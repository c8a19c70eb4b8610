#include "gateway/gateway.h"

#include <fmt/format.h>

#include "core/reason.h"
#include "core/version.h"
#include "core/wire/model_metadata.h"
#include "gateway/protocol_words.h"

namespace mayfly {
namespace {

Response json_text(std::string text, int status = 200) {
  return {
      .status = status, .headers = {{"Content-Type", "application/json"}}, .body = std::move(text)};
}

}  // namespace

Status Gateway::check(const RequestHead& head, const RouteResult& found) const {
  const std::string_view host = head.headers.find("Host").value_or(head.host);
  TRY(check_host(policy_, host));
  const std::string_view origin = head.headers.find("Origin").value_or("");
  if (found.route && is_control(found.route->endpoint)) TRY(check_origin(policy_, origin, host));
  if (found.route) return {};
  if (found.error == RouteError::WrongMethod) {
    return refuse(reason::kMethodNotAllowed,
                  fmt::format("{} is not allowed here; use {}", head.method_text.substr(0, 20),
                              found.allowed));
  }
  return refuse(reason::kNotFound, "Not Found");
}

Response Gateway::refusal(const Error& error, const RouteResult& found) const {
  Response response = error_response(http_status(error), error.message, error.reason);
  if (error.reason == reason::kMethodNotAllowed) response.headers.add("Allow", found.allowed);
  return response;
}

Task<void> Gateway::handle(Exchange& exchange) {
  const RequestHead& head = exchange.head();
  const std::string_view origin = head.headers.find("Origin").value_or("");
  if (head.method == Method::Options && !cors_origin(policy_, origin).empty()) {
    co_await answer_preflight(exchange, origin);
    co_return;
  }
  const RouteResult found = find_route(head.method_text, head.path());
  if (const Status allowed = check(head, found); !allowed) {
    parts_.metrics.refused(allowed.error().reason);
    Response response = refusal(allowed.error(), found);
    allow_origin(response.headers, cors_origin(policy_, origin));
    (void)co_await exchange.respond(std::move(response));
    co_return;
  }
  co_await serve(exchange, *found.route);
}

Task<void> Gateway::answer_preflight(Exchange& exchange, std::string_view origin) {
  Response response{.status = 204, .headers = {}, .body = ""};
  response.headers.add("Access-Control-Allow-Origin", origin);
  response.headers.add("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE");
  response.headers.add("Access-Control-Allow-Headers",
                       "Content-Type, Inference-Header-Content-Length, X-Request-Id, "
                       "Upload-Offset, Upload-Length");
  response.headers.add("Access-Control-Max-Age", "600");
  response.headers.add("Vary", "Origin");
  (void)co_await exchange.respond(std::move(response));
}

Task<void> Gateway::serve(Exchange& exchange, const Route& route) {
  const std::string_view origin =
      cors_origin(policy_, exchange.head().headers.find("Origin").value_or(""));
  if (route.endpoint == Endpoint::Infer || route.endpoint == Endpoint::Invoke) {
    const Protocol protocol =
        route.endpoint == Endpoint::Infer ? Protocol::OpenInference : Protocol::Plain;
    co_return co_await parts_.predictions.handle(exchange, route, protocol, origin);
  }
  Response response;
  if (route.endpoint == Endpoint::Deploy || route.endpoint == Endpoint::FunctionLogs) {
    const Status done = route.endpoint == Endpoint::Deploy
                            ? co_await parts_.control.deploy(exchange, route, origin)
                            : co_await parts_.control.follow_logs(exchange, route, origin);
    if (done) co_return;
    response = refusal(done.error(), {});
  } else {
    auto answered = co_await answer(exchange, route);
    response = answered ? *std::move(answered) : refusal(answered.error(), {});
  }
  allow_origin(response.headers, origin);
  (void)co_await exchange.respond(std::move(response));
}

Task<Result<Response>> Gateway::answer(Exchange& exchange, const Route& route) {
  switch (route.endpoint) {
    case Endpoint::ServerMetadata:
      co_return json_text(server_metadata_json(kVersion));
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
    case Endpoint::Unsupported:
      co_return refuse(reason::kUnsupported,
                       "this extension of the protocol is not served by this node");
    case Endpoint::BlobState:
      co_return co_await parts_.blobs.state(route.version);
    case Endpoint::BlobAppend:
      co_return co_await parts_.blobs.append(exchange, route.version);
    case Endpoint::BlobUpload:
      co_return co_await parts_.blobs.create(exchange);
    default:
      co_return co_await parts_.control.call(exchange, route);
  }
}

Task<Result<Response>> Gateway::model_metadata(const Route& route) {
  const auto resolved = parts_.catalog.resolve(route.name, route.version);
  if (!resolved) {
    co_return std::unexpected(in_protocol_words(resolved.error(), route.name, route.version));
  }
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(*resolved));
  std::vector<VersionNumber> versions;
  for (const VersionEntry& version : resolved->function->versions)
    versions.push_back(version.number);
  co_return json_text(model_metadata_json({.name = serving->function,
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
  co_return json_text(model_ready_json(serving->function, ready ? Readiness::Yes : Readiness::No),
                      ready ? 200 : 503);
}

}  // namespace mayfly
