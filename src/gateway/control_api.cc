#include "gateway/control_api.h"

#include <fmt/format.h>

#include "core/reason.h"
#include "gateway/body.h"
#include "gateway/callers.h"

namespace mayfly {
namespace {

constexpr Bytes kMaxControlBody = mib(4);

}  // namespace

Response json_response(const Json& json, int status) {
  return {.status = status,
          .headers = {{"Content-Type", "application/json"}},
          .body = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"};
}

Task<Result<std::string>> read_control_body(Exchange& exchange) {
  CO_TRY(BodyReader body, BodyReader::open(exchange, kMaxControlBody, "4MiB for control requests"));
  co_return co_await body.read_rest();
}

std::string author_of(const Exchange& exchange, const Route& route) {
  return route.caller->name.empty() ? address_of(exchange.peer()) : route.caller->name;
}

Task<Result<Response>> ControlApi::call(Exchange& exchange, const Route& route) {
  switch (route.endpoint) {
    case Endpoint::NodeStatus:
      co_return status(route);
    case Endpoint::NodeTop:
      co_return top(route);
    case Endpoint::OpenApi:
      co_return co_await openapi(route);
    case Endpoint::NodeDoctor:
      co_return co_await doctor();
    case Endpoint::Metrics:
      co_return metrics();
    case Endpoint::ListFunctions:
      co_return co_await list_functions(route);
    case Endpoint::DescribeFunction:
    case Endpoint::DescribeVersion:
      co_return co_await describe(route);
    case Endpoint::DeleteFunction:
      co_return co_await remove(exchange, route);
    case Endpoint::ListVersions:
      co_return co_await list_versions(route);
    case Endpoint::GetSettings:
      co_return settings(route);
    case Endpoint::ChangeSettings:
      co_return co_await change_settings(exchange, route);
    case Endpoint::History:
      co_return co_await history(route);
    case Endpoint::GetTraffic:
      co_return traffic(route);
    case Endpoint::SplitTraffic:
      co_return co_await split_traffic(exchange, route);
    case Endpoint::RollBack:
      co_return co_await roll_back(exchange, route);
    case Endpoint::GetRollout:
    case Endpoint::StartRollout:
    case Endpoint::ApproveRollout:
    case Endpoint::PauseRollout:
    case Endpoint::ResumeRollout:
    case Endpoint::AbortRollout:
      co_return co_await rollout(exchange, route);
    case Endpoint::MoveAlias:
      co_return co_await move_alias(exchange, route);
    case Endpoint::RemoveAlias:
      co_return co_await remove_alias(exchange, route);
    case Endpoint::Evict:
      co_return co_await evict(route);
    case Endpoint::Usage:
      co_return co_await usage(exchange, route);
    case Endpoint::CollectGarbage:
      co_return co_await collect(exchange);
    case Endpoint::Backup:
      co_return co_await backup(exchange);
    default:
      co_return refuse(reason::kNotFound, "no such path");
  }
}

}  // namespace mayfly
