#include "grpc/grpc_gateway.h"

#include <fmt/format.h>

#include <string_view>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::string_view kInference = "/inference.GRPCInferenceService/";
constexpr std::string_view kHealth = "/grpc.health.v1.Health/";

}  // namespace

Task<Status> GrpcGateway::handle(Rpc& rpc) {
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
