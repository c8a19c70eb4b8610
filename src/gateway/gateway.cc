#include "gateway/gateway.h"

#include <fmt/format.h>

#include <optional>
#include <vector>

#include "core/reason.h"
#include "core/version.h"
#include "core/wire/model_metadata.h"
#include "core/wire/tf_metadata.h"
#include "gateway/protocol_words.h"

namespace mayfly {
namespace {

Response json_text(std::string text, int status = 200) {
  return {
      .status = status, .headers = {{"Content-Type", "application/json"}}, .body = std::move(text)};
}

// How the callers of an endpoint speak; nullopt: it predicts nothing.
std::optional<Protocol> protocol_of(Endpoint endpoint) {
  switch (endpoint) {
    case Endpoint::Infer:
      return Protocol::OpenInference;
    case Endpoint::Invoke:
      return Protocol::Plain;
    case Endpoint::TfPredict:
      return Protocol::TensorFlow;
    default:
      return std::nullopt;
  }
}

std::vector<VersionNumber> version_numbers(const FunctionEntry& function) {
  std::vector<VersionNumber> numbers;
  for (const VersionEntry& version : function.versions) numbers.push_back(version.number);
  return numbers;
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
  if (const std::optional<Protocol> protocol = protocol_of(route.endpoint)) {
    co_return co_await parts_.predictions.handle(exchange, route, *protocol, origin);
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
    case Endpoint::ModelConfig:
    case Endpoint::ModelStatistics:
    case Endpoint::RepositoryIndex:
    case Endpoint::RepositoryLoad:
    case Endpoint::RepositoryUnload:
    case Endpoint::Generate:
    case Endpoint::SystemSharedMemory:
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
  const std::vector<VersionNumber> versions = version_numbers(*resolved->function);
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
      {.name = serving.function, .version = serving.version, .signature = serving.signature()}));
}

}  // namespace mayfly
