#include "grpc/grpc_gateway.h"

#include <fmt/format.h>

#include <string_view>

#include "core/reason.h"
#include "gateway/access.h"
#include "grpc/rpc_caller.h"
#include "identity/audit_log.h"

namespace mayfly {
namespace {

constexpr std::string_view kInference = "/inference.GRPCInferenceService/";
constexpr std::string_view kHealth = "/grpc.health.v1.Health/";

}  // namespace

Status GrpcGateway::admit_caller(Rpc& rpc, const RpcRule* rule) {
  const bool open =
      rpc.method().starts_with(kHealth) || (rule != nullptr && rule->needs == Needs::Open);
  auto caller = who_calls(callers_, rpc);
  if (!caller && !open) return std::unexpected(std::move(caller).error());
  const Needs needs = rule == nullptr ? Needs::Describe : rule->needs;
  rpc.identify(caller ? *std::move(caller) : callers_.stranger(), needs);
  return rule == nullptr ? Status{} : check_access(*rpc.caller(), needs, "");
}

Task<Status> GrpcGateway::handle(Rpc& rpc) {
  const bool inference = rpc.method().starts_with(kInference);
  const RpcRule* rule = inference ? find_rpc_rule(rpc.method().substr(kInference.size())) : nullptr;
  Status done = admit_caller(rpc, rule);
  const auto authorization = rpc.metadata("authorization");
  if (!rpc.caller() && callers_.may_learn(authorization)) {
    co_await callers_.learn(std::string(*authorization));
    done = admit_caller(rpc, rule);
  }
  if (done) done = co_await serve(rpc);
  if (rule != nullptr && !rule->action.empty()) co_await note(rpc, rule->action, done);
  if (!done && rpc.caller()) {
    std::string& message = done.error().message;
    message = without_project(rpc.caller()->project, std::move(message));
  }
  co_return done;
}

Task<void> GrpcGateway::note(const Rpc& rpc, std::string_view action, const Status& outcome) {
  const PrincipalRef& caller = rpc.caller();
  AuditEntry entry{.project = caller ? caller->project : "",
                   .who = caller ? caller->name : "",
                   .from = address_of(rpc.peer()),
                   .action = std::string(action),
                   .subject = rpc.subject(),
                   .outcome = outcome_of(outcome)};
  if (caller) co_return co_await callers_.audit(std::move(entry));
  callers_.audit_stranger(std::move(entry));
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
