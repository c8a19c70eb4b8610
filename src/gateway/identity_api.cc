#include "gateway/identity_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <utility>

#include "base/log.h"
#include "core/caller_reason.h"
#include "core/json_reader.h"
#include "core/names.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "gateway/control_api.h"

namespace mayfly {
namespace {

constexpr std::uint32_t kMostEntries = 1000;
// Beyond it the nanoseconds of a time would overflow.
constexpr std::chrono::days kLongestLife(36'500);

// Keys of the project `default` may speak for the node: for all projects.
bool speaks_for_node(const Principal& caller) { return caller.project == kDefaultProject; }

std::optional<Duration> parse_days(const std::string& text) {
  std::int64_t days = 0;
  const char* end = text.data() + text.size() - 1;
  const auto [rest, error] = std::from_chars(text.data(), end, days);
  if (!text.ends_with('d') || error != std::errc() || rest != end) return std::nullopt;
  if (days <= 0 || days > kLongestLife.count()) return std::nullopt;
  return std::chrono::days(days);
}

// "90d", "12h", or a time.
Result<WallTime> parse_expiry(const std::string& text, WallTime now) {
  if (const auto after = parse_days(text)) return now + *after;
  if (const auto after = parse_duration(text); after && *after <= kLongestLife) return now + *after;
  if (const auto time = parse_time(text)) return *time;
  return refuse(reason::kInvalidSetting,
                fmt::format("expires: '{}' is neither a duration, as 90d or 12h and at most {}d, "
                            "nor a time, as 2030-01-31T00:00:00Z",
                            text.substr(0, 40), kLongestLife.count()));
}

Result<KeyStore::Wish> parse_wish(const std::string& text, const Principal& caller, WallTime now) {
  const Json json = TRY(parse_json(text, "body"));
  JsonReader reader(json, "body", reason::kInvalidSetting);
  KeyStore::Wish wish{.name = {}, .project = caller.project, .scopes = {}};
  std::string scopes;
  std::string expires;
  reader.text("name", wish.name).text("project", wish.project);
  TRY(reader.text("scopes", scopes).text("expires", expires).finish());
  wish.scopes = TRY(Scopes::parse(scopes));
  TRY(check_project(wish.project));
  if (!expires.empty()) wish.expires = TRY(parse_expiry(expires, now));
  if (wish.project != caller.project && !speaks_for_node(caller)) {
    return refuse(reason::kMissingScope,
                  fmt::format("keys of other projects are made with the scope admin of the project "
                              "{}",
                              kDefaultProject));
  }
  if (wish.project != kDefaultProject && wish.scopes.allow_any(Verb::Metrics)) {
    return refuse(
        reason::kInvalidSetting,
        fmt::format("metrics are of the whole node: only keys of the project {} have that "
                    "scope",
                    kDefaultProject));
  }
  return wish;
}

Json optional_time(const std::optional<WallTime>& time) {
  return time ? Json(format_time(*time)) : Json(nullptr);
}

Json key_json(const KeyRow& row) {
  return {{"id", row.id},
          {"name", row.name},
          {"project", row.project},
          {"scopes", row.scopes},
          {"created", format_time(row.created)},
          {"created_by", row.created_by},
          {"expires", optional_time(row.expires)},
          {"last_used", optional_time(row.last_used)},
          {"revoked", optional_time(row.revoked)}};
}

Json entry_json(const AuditEntry& entry) {
  return {{"sequence", entry.sequence}, {"time", format_time(entry.time)},
          {"project", entry.project},   {"who", entry.who},
          {"from", entry.from},         {"action", entry.action},
          {"subject", entry.subject},   {"outcome", entry.outcome}};
}

Result<AuditQuery> parse_audit_query(const RequestHead& head, const Principal& caller,
                                     WallTime now) {
  const auto given = [&](std::string_view name) { return head.query(name).value_or(""); };
  AuditQuery query{.project = speaks_for_node(caller) ? given("project") : caller.project,
                   .who = given("who"),
                   .subject = given("subject"),
                   .action = given("action")};
  if (const std::string since = given("since"); !since.empty()) {
    const auto ago = parse_duration(since);
    query.since = ago ? now - *ago : TRY(parse_time(since));
  }
  if (const std::string limit = given("limit"); !limit.empty()) {
    const auto [end, error] =
        std::from_chars(limit.data(), limit.data() + limit.size(), query.limit);
    const bool whole = error == std::errc() && end == limit.data() + limit.size();
    if (!whole || query.limit == 0 || query.limit > kMostEntries) {
      return refuse(reason::kBadRequest, fmt::format("limit: a number from 1 to {}", kMostEntries));
    }
  }
  return query;
}

}  // namespace

Task<Result<Response>> IdentityApi::call(Exchange& exchange, Route& route) {
  switch (route.endpoint) {
    case Endpoint::CreateKey:
      co_return co_await create(exchange, route);
    case Endpoint::ListKeys:
      co_return co_await list(route);
    case Endpoint::RevokeKey:
      co_return co_await revoke(route);
    case Endpoint::ListProjects:
      co_return co_await list_projects();
    case Endpoint::CreateProject:
      co_return co_await create_project(exchange, route);
    case Endpoint::SetQuotas:
      co_return co_await set_quotas(exchange, route);
    default:
      co_return co_await audit(exchange, route);
  }
}

// Without keys anybody on this machine could close the node to everybody else: the first is made by
// the owner of the data folder.
Task<Result<Response>> IdentityApi::create(Exchange& exchange, Route& route) {
  const Principal& caller = *route.caller;
  if (caller.means == Principal::Means::Nobody) {
    co_return refuse(
        reason::kMissingScope,
        "the first key is made over the admin socket, by the owner of the data folder: "
        "mayfly key create --data FOLDER, with no --url and no MAYFLY_URL");
  }
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(const KeyStore::Wish wish, parse_wish(text, caller, parts_.clock.wall_now()));
  const std::string who = author_of(exchange, route);
  CO_TRY(const KeyStore::Made made,
         co_await parts_.pool.run([&] { return parts_.keys.create(wish, who); }));
  parts_.callers.refresh();
  route.version = made.row.id;
  route.project = made.row.project;
  LOG(info, "key created", {"id", made.row.id}, {"project", made.row.project}, {"who", who});
  Json about = key_json(made.row);
  about["key"] = made.text;
  Response response = json_response(about, 201);
  response.headers.add("Cache-Control", "no-store");
  co_return response;
}

Task<Result<Response>> IdentityApi::list(const Route& route) {
  const Principal& caller = *route.caller;
  const std::string project = speaks_for_node(caller) ? "" : caller.project;
  CO_TRY(const std::vector<KeyRow> rows,
         co_await parts_.pool.run([&] { return parts_.keys.list(project); }));
  Json keys = Json::array();
  for (const KeyRow& row : rows) keys.push_back(key_json(row));
  co_return json_response({{"keys", std::move(keys)}});
}

Task<Result<Response>> IdentityApi::revoke(Route& route) {
  const Principal& caller = *route.caller;
  const std::string project = speaks_for_node(caller) ? "" : caller.project;
  CO_TRY(route.project,
         co_await parts_.pool.run([&] { return parts_.keys.revoke(project, route.version); }));
  parts_.callers.refresh();
  LOG(info, "key revoked", {"id", route.version}, {"who", caller.name});
  co_return json_response({{"revoked", route.version}});
}

// A project is there as soon as it was created, or a key names it.
Task<Result<QuotaTable>> IdentityApi::projects() {
  CO_TRY(const std::vector<KeyRow> keys,
         co_await parts_.pool.run([&] { return parts_.keys.list(""); }));
  QuotaTable table = *parts_.projects.table();
  for (const KeyRow& key : keys) table.try_emplace(key.project);
  co_return table;
}

Task<Result<Response>> IdentityApi::list_projects() {
  CO_TRY(const QuotaTable table, co_await projects());
  Json list = Json::array();
  for (const auto& [name, quotas] : table)
    list.push_back({{"name", name}, {"quotas", Json::parse(to_json(quotas))}});
  co_return json_response({{"projects", std::move(list)}});
}

Task<Result<Response>> IdentityApi::create_project(Exchange& exchange, Route& route) {
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(const Json json, parse_json(text, "body"));
  std::string name;
  JsonReader reader(json, "body", reason::kInvalidSetting);
  CO_TRY_STATUS(reader.text("name", name).finish());
  route.version = name;
  CO_TRY_STATUS(co_await parts_.pool.run([&] { return parts_.projects.create(name); }));
  LOG(info, "project created", {"project", name}, {"who", author_of(exchange, route)});
  co_return json_response({{"name", name}, {"quotas", Json::parse(to_json(Quotas{}))}}, 201);
}

Task<Result<Response>> IdentityApi::set_quotas(Exchange& exchange, const Route& route) {
  CO_TRY(const std::string changes, co_await read_control_body(exchange));
  CO_TRY(const QuotaTable known, co_await projects());
  if (!known.contains(route.version)) {
    co_return refuse(
        reason::kNotFound,
        fmt::format("there is no project '{}': `mayfly project create` makes one", route.version));
  }
  CO_TRY(const Quotas quotas,
         co_await parts_.pool.run([&] { return parts_.projects.change(route.version, changes); }));
  parts_.quotas.publish(*parts_.projects.table());
  co_await parts_.quotas.refresh();
  LOG(info, "quotas changed", {"project", route.version}, {"quotas", to_json(quotas)});
  co_return json_response({{"name", route.version}, {"quotas", Json::parse(to_json(quotas))}});
}

Task<Result<Response>> IdentityApi::audit(const Exchange& exchange, const Route& route) {
  CO_TRY(const AuditQuery query,
         parse_audit_query(exchange.head(), *route.caller, parts_.clock.wall_now()));
  CO_TRY(const std::vector<AuditEntry> entries,
         co_await parts_.pool.run([&] { return parts_.audit.find(query); }));
  Json list = Json::array();
  for (const AuditEntry& entry : entries) list.push_back(entry_json(entry));
  co_return json_response({{"entries", std::move(list)}});
}

}  // namespace mayfly
