// Which version gets a function's requests: splits, aliases, the way back.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/log.h"
#include "core/reason.h"
#include "gateway/control_api.h"
#include "serving/traffic_json.h"

namespace mayfly {
namespace {

Result<std::optional<VersionNumber>> version_in(const Json* json, std::string_view key) {
  if (json == nullptr || json->is_null()) return std::nullopt;
  if (!json->is_number_unsigned()) {
    return refuse(reason::kInvalidTraffic, fmt::format("'{}' is not a version number", key));
  }
  return TRY(parse_version_number(json->dump()));
}

// JSON has no infinity.
constexpr double kLargestShown = std::numeric_limits<double>::max();

constexpr std::size_t kLongestWhy = 1000;

struct AliasBody {
  std::optional<VersionNumber> version;
  // What the caller believes the alias to name; outer nullopt: whatever it is.
  std::optional<std::optional<VersionNumber>> expect;
  std::string why;
};

Result<AliasBody> parse_alias(std::string_view text) {
  const Json json = TRY(parse_json(text, "body"));
  JsonReader reader(json, "body", reason::kInvalidTraffic);
  const Json* version = reader.value("version");
  const Json* expect = reader.value("expect");
  AliasBody body;
  reader.text("why", body.why);
  TRY(reader.finish());
  const auto is_control = [](char c) { return (c >= 0 && c < ' ') || c == 127; };
  if (body.why.size() > kLongestWhy || std::ranges::any_of(body.why, is_control)) {
    return refuse(
        reason::kInvalidTraffic,
        fmt::format("body: 'why' is at most {} bytes without control characters", kLongestWhy));
  }
  body.version = TRY(version_in(version, "version"));
  if (!body.version) return refuse(reason::kInvalidTraffic, "body: 'version' is missing");
  if (expect != nullptr) body.expect = TRY(version_in(expect, "expect"));
  return body;
}

std::optional<VersionNumber> named_by(const FunctionEntry& function, std::string_view alias) {
  if (alias == kChampion) return function.current;
  const Alias* known = function.routing->find(alias);
  if (known == nullptr) return std::nullopt;
  return known->version;
}

}  // namespace

Json ControlApi::describe_traffic(const FunctionEntry& function) const {
  Json about = traffic_json(function);
  Json comparisons = Json::array();
  const FunctionId id{static_cast<std::uint64_t>(function.id)};
  for (const auto& [pair, result] : parts_.shadows.comparisons(id)) {
    comparisons.push_back({{"version", pair.first},
                           {"shadow", pair.second},
                           {"compared", result.compared},
                           {"agreed", result.agreed},
                           {"labels", result.labels},
                           {"labels_agreed", result.labels_agreed},
                           {"max_difference", std::min(result.max_difference, kLargestShown)},
                           {"failed", result.failed},
                           {"dropped", result.dropped}});
  }
  about["comparisons"] = std::move(comparisons);
  return about;
}

Result<Response> ControlApi::traffic(const Route& route) const {
  const ResolvedVersion resolved = TRY(parts_.catalog.resolve(route.name, ""));
  return json_response(describe_traffic(*resolved.function));
}

Task<Result<Response>> ControlApi::split_traffic(Exchange& exchange, const Route& route) {
  CO_TRY(const FunctionName name, FunctionName::parse(route.name));
  CO_TRY(const std::string body, co_await read_control_body(exchange));
  CO_TRY(const Traffic traffic, parse_traffic(body));
  const Author author{.who = author_of(exchange, route), .why = "traffic"};
  CO_TRY(const FunctionTable::Entry after, co_await parts_.traffic.split(name, traffic, author));
  LOG(info, "traffic split", {"function", name.str()}, {"traffic", to_json(traffic)});
  co_return json_response(describe_traffic(*after));
}

Task<Result<Response>> ControlApi::roll_back(Exchange& exchange, const Route& route) {
  CO_TRY(const FunctionName name, FunctionName::parse(route.name));
  const Author author{.who = author_of(exchange, route), .why = "rollback"};
  if (parts_.rollouts.under_way(name) && co_await parts_.rollouts.abort(name, author)) {
    // back to where it began
    CO_TRY(const ResolvedVersion now, parts_.catalog.resolve(name.str(), ""));
    co_return json_response(describe_traffic(*now.function));
  }
  CO_TRY(const FunctionTable::Entry after, co_await parts_.traffic.roll_back(name, author));
  LOG(info, "rolled back", {"function", name.str()}, {"champion", after->current.value});
  co_return json_response(describe_traffic(*after));
}

Task<Result<Response>> ControlApi::move_alias(Exchange& exchange, const Route& route) {
  CO_TRY(const FunctionName name, FunctionName::parse(route.name));
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(const AliasBody body, parse_alias(text));
  CO_TRY(const ResolvedVersion before, parts_.catalog.resolve(name.str(), ""));
  const AliasMove move{.alias = route.version,
                       .from = body.expect.value_or(named_by(*before.function, route.version)),
                       .to = body.version};
  const Author author{.who = author_of(exchange, route),
                      .why = body.why.empty() ? "alias" : body.why};
  CO_TRY(const FunctionTable::Entry after, co_await parts_.traffic.move_alias(name, move, author));
  LOG(info, "alias moved", {"function", name.str()}, {"alias", move.alias},
      {"version", move.to->value});
  co_return json_response(describe_traffic(*after));
}

Task<Result<Response>> ControlApi::remove_alias(Exchange& exchange, const Route& route) {
  CO_TRY(const FunctionName name, FunctionName::parse(route.name));
  CO_TRY(const ResolvedVersion before, parts_.catalog.resolve(name.str(), ""));
  const AliasMove move{.alias = route.version,
                       .from = named_by(*before.function, route.version),
                       .to = std::nullopt};
  if (!move.from && move.alias != kPrevious) {
    co_return refuse(reason::kUnknownVersion, fmt::format("function '{}' has no alias '{}'",
                                                          name.str(), move.alias.substr(0, 63)));
  }
  const Author author{.who = author_of(exchange, route), .why = "alias"};
  CO_TRY(const FunctionTable::Entry after, co_await parts_.traffic.move_alias(name, move, author));
  co_return json_response(describe_traffic(*after));
}

}  // namespace mayfly
