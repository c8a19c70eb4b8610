#include "grpc/grpc_gateway.h"

#include <fmt/format.h>

#include <string_view>

#include "core/reason.h"
#include "gateway/access.h"

namespace mayfly {
namespace {

constexpr std::string_view kInference = "/inference.GRPCInferenceService/";
constexpr std::string_view kHealth = "/grpc.health.v1.Health/";

}  // namespace

Status GrpcGateway::identify(Rpc& rpc) {
  std::string_view method = rpc.method();
  const bool inference = method.starts_with(kInference);
  if (inference) method.remove_prefix(kInference.size());
  const bool open =
      method.starts_with(kHealth) || (inference && needs_of_rpc(method) == Needs::Open);
  auto caller = callers_.who(rpc.metadata("authorization"));
  if (!caller && !open) return std::unexpected(std::move(caller).error());
  rpc.identify(caller ? *std::move(caller) : callers_.stranger());
  return {};
}

Task<Status> GrpcGateway::handle(Rpc& rpc) {
  CO_TRY_STATUS(identify(rpc));
  Status done = co_await serve(rpc);
  if (!done) {
    std::string& message = done.error().message;
    message = without_project(rpc.caller()->project, std::move(message));
  }
  co_return done;
}

Task<Status> GrpcGateway::serve(Rpc& rpc) {
  const std::string_view method = rpc.method();
  if (method.starts_with(kInference)) return inference_.call(rpc, method.substr(kInference.size()));
  if (method.starts_with(kHealth)) return health_.call(rpc, method.substr(kHealth.size()));
  return [](std::string_view name) -> Task<Status> {
    co_return refuse(reason::kUnsupported,
                     fmt::format("there is no method {} here; services are "
                                 "inference.GRPCInferenceService and grpc.health.v1.Health",
                                 name.substr(0, 200)));
  }(method);
}

}  // namespace mayfly
