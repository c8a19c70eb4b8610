// Which version gets a function's requests: splits, aliases, the way back. A version that is about
// to get requests of a function that is being used is started first; one that gets none any more
// goes to zero once it has answered what it has.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/log.h"
#include "core/reason.h"
#include "gateway/control_api.h"
#include "gateway/traffic_json.h"

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

std::vector<VersionNumber> versions_in(const Traffic& traffic) {
  std::vector<VersionNumber> versions;
  for (const VersionShare& share : traffic.weights) versions.push_back(share.version);
  return versions;
}

}  // namespace

Json ControlApi::describe_traffic(const FunctionEntry& function) const {
  Json about = traffic_json(function);
  Json comparisons = Json::array();
  for (const auto& [pair, result] : parts_.shadows.comparisons(function.name.str())) {
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

// Nothing runs for a function that nobody calls: only one that has processes gets more of them.
Task<Status> ControlApi::warm(FunctionTable::Entry function, std::vector<VersionNumber> versions) {
  const FunctionId id{static_cast<std::uint64_t>(function->id)};
  if (!parts_.dispatcher.resident(id)) co_return Status{};
  for (const VersionNumber version : versions) {
    const VersionEntry* entry = function->find(version);
    if (entry == nullptr) continue;  // the registry will say so
    const ResolvedVersion resolved{.function = function, .version = entry};
    CO_TRY(const ServingRef serving, co_await parts_.catalog.find(resolved));
    const Status warmed =
        co_await parts_.dispatcher.warm(serving->runtime, serving->settings, serving->sequence);
    // A request may take memory from what idles; that it can start has been shown at publish.
    if (warmed || warmed.error().reason == reason::kMemoryPressure) continue;
    co_return std::unexpected(Error(warmed.error()).in("traffic stays as it was"));
  }
  co_return Status{};
}

// After the registry has changed: what is kept moves to the champion, what gets nothing goes.
Task<Status> ControlApi::settle_traffic(FunctionName name) {
  parts_.catalog.publish(parts_.registry.snapshot());
  CO_TRY(const ResolvedVersion champion, parts_.catalog.resolve(name.str(), ""));
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(champion));
  parts_.dispatcher.serve(serving->runtime, serving->settings, serving->sequence);
  const FunctionEntry& function = *champion.function;
  parts_.shadows.end(serving->runtime->key.function);  // what still shadows starts anew when asked
  for (const VersionEntry& version : function.versions) {
    if (weight_of(function, version.number) == 0)
      parts_.dispatcher.evict(VersionKey{serving->runtime->key.function, version.number.value});
  }
  co_return Status{};
}

Task<Result<Response>> ControlApi::split_traffic(Exchange& exchange, const Route& route) {
  CO_TRY(const FunctionName name, FunctionName::parse(route.name));
  CO_TRY(const std::string body, co_await read_control_body(exchange));
  CO_TRY(const Traffic traffic, parse_traffic(body));
  CO_TRY(const ResolvedVersion before, parts_.catalog.resolve(name.str(), ""));
  CO_TRY_STATUS(co_await warm(before.function, versions_in(traffic)));
  const Author author{.who = author_of(exchange), .why = "traffic"};
  CO_TRY(const FunctionTable::Entry after,
         co_await parts_.pool.run([&] { return parts_.registry.split(name, traffic, author); }));
  CO_TRY_STATUS(co_await settle_traffic(name));
  LOG(info, "traffic split", {"function", name.str()}, {"traffic", to_json(traffic)});
  co_return json_response(describe_traffic(*after));
}

// Not warmed first: whoever rolls back wants the broken version gone now.
Task<Result<Response>> ControlApi::roll_back(Exchange& exchange, const Route& route) {
  CO_TRY(const FunctionName name, FunctionName::parse(route.name));
  const Author author{.who = author_of(exchange), .why = "rollback"};
  CO_TRY(const FunctionTable::Entry after,
         co_await parts_.pool.run([&] { return parts_.registry.roll_back(name, author); }));
  CO_TRY_STATUS(co_await settle_traffic(name));
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
  const bool champion = move.alias == kChampion;
  if (champion) {
    CO_TRY_STATUS(co_await warm(before.function, {*move.to}));
  }
  const Author author{.who = author_of(exchange), .why = body.why.empty() ? "alias" : body.why};
  CO_TRY_STATUS(
      co_await parts_.pool.run([&] { return parts_.registry.move_alias(name, move, author); }));
  parts_.catalog.publish(parts_.registry.snapshot());
  if (champion) {
    CO_TRY_STATUS(co_await settle_traffic(name));
  }
  LOG(info, "alias moved", {"function", name.str()}, {"alias", move.alias},
      {"version", move.to->value});
  co_return traffic(route);
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
  const Author author{.who = author_of(exchange), .why = "alias"};
  CO_TRY_STATUS(
      co_await parts_.pool.run([&] { return parts_.registry.move_alias(name, move, author); }));
  parts_.catalog.publish(parts_.registry.snapshot());
  co_return traffic(route);
}

}  // namespace mayfly
