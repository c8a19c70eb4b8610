#include "grpc/health_service.h"

#include <fmt/format.h>

#include <optional>

#include "async/sleep.h"
#include "core/reason.h"
#include "gateway/access.h"
#include "grpc/message_bytes.h"
#include "grpc/rpc_caller.h"
#include "health.pb.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;
using grpc::health::v1::HealthCheckRequest;
using grpc::health::v1::HealthCheckResponse;

// How late a watcher may learn of a change. Nothing is looked at while nobody watches.
constexpr Duration kLook = 1s;
constexpr std::string_view kNodeService = "inference.GRPCInferenceService";

bool is_of_node(std::string_view service) { return service.empty() || service == kNodeService; }

}  // namespace

Status HealthService::identify_again(Rpc& rpc, const std::string& service) {
  // The node's own health is anybody's, and a stranger stays one: nothing is checked for them.
  if (is_of_node(service) || rpc.caller() == parts_.callers.stranger()) return {};
  auto caller = who_still_calls(parts_.callers, rpc);
  if (!caller) return std::unexpected(std::move(caller).error());
  rpc.identify(*std::move(caller), rpc.needs());
  return {};
}

HealthService::Health HealthService::health_of(const Principal& caller,
                                               const std::string& service) const {
  if (!is_of_node(service)) {
    const auto name = admit(caller, Needs::Describe, service);
    if (!name || !parts_.catalog.resolve(*name, "")) return Health::Unknown;
  }
  return parts_.ready() ? Health::Serving : Health::NotServing;
}

Task<Status> HealthService::call(Rpc& rpc, std::string_view method) {
  if (method != "Check" && method != "Watch") {
    co_return refuse(reason::kUnsupported,
                     fmt::format("Health has no method '{}'", method.substr(0, 100)));
  }
  const std::optional<grpc::ByteBuffer> message = co_await rpc.read();
  if (!message) co_return refuse(reason::kBadRequest, "the call carries no message");
  HealthCheckRequest request;
  CO_TRY_STATUS(parse_message(*message, request));
  if (method == "Check") co_return co_await check(rpc, request.service());
  co_return co_await watch(rpc, request.service());
}

Task<Status> HealthService::check(Rpc& rpc, std::string service) {
  const Health health = health_of(*rpc.caller(), service);
  if (health == Health::Unknown) {
    co_return refuse(reason::kUnknownFunction,
                     fmt::format("there is no service or model '{}'", service));
  }
  HealthCheckResponse response;
  response.set_status(health == Health::Serving ? HealthCheckResponse::SERVING
                                                : HealthCheckResponse::NOT_SERVING);
  rpc.reply(to_buffer(response));
  co_return Status{};
}

Task<Status> HealthService::watch(Rpc& rpc, std::string service) {
  CancelSource over;
  const CancelCallback gone(rpc.cancelled(), [&] { over.cancel(); });
  const CancelCallback draining(rpc.draining(), [&] { over.cancel(); });
  std::optional<Health> said;
  while (true) {
    CO_TRY_STATUS(identify_again(rpc, service));
    const Health health =
        rpc.draining().cancelled() ? Health::NotServing : health_of(*rpc.caller(), service);
    if (said != health) {
      said = health;
      HealthCheckResponse response;
      response.set_status(health == Health::Serving      ? HealthCheckResponse::SERVING
                          : health == Health::NotServing ? HealthCheckResponse::NOT_SERVING
                                                         : HealthCheckResponse::SERVICE_UNKNOWN);
      if (!co_await rpc.write(to_buffer(response))) co_return Status{};
    }
    if (over.cancelled()) break;
    (void)co_await sleep_until(parts_.loop, parts_.loop.now() + kLook, over.token());
  }
  co_return refuse(reason::kDraining, "the node is shutting down");
}

}  // namespace mayfly
