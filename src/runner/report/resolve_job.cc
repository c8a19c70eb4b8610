#include "runner/report/resolve_job.h"

#include <fmt/format.h>

#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxMessage = 1024;
constexpr std::size_t kMaxResolved = 1 << 20;
constexpr std::size_t kMaxWords = 6000;

Result<ResolveStep> parse_step(std::string_view text) {
  for (const ResolveStep step : {ResolveStep::Install, ResolveStep::Build, ResolveStep::Debian}) {
    if (text == to_string(step)) return step;
  }
  return refuse(reason::kPublishFailed, "installing packages left no step that there is");
}

}  // namespace

std::string_view to_string(ResolveStep step) {
  switch (step) {
    case ResolveStep::Install:
      return "install";
    case ResolveStep::Build:
      return "build";
    case ResolveStep::Debian:
      return "debian";
  }
  return "";
}

std::string to_json(const ResolveJob& job) {
  return Json{{"resolve", to_string(job.step)},
              {"index_url", job.index_url},
              {"lock", job.lock},
              {"build", job.build},
              {"debian", job.debian}}
      .dump();
}

Result<std::optional<ResolveJob>> parse_resolve_job(std::string_view text) {
  const Json json = TRY(parse_json(text, "resolve job"));
  if (!json.is_object() || !json.contains("resolve")) return std::nullopt;
  ResolveJob job;
  std::string step;
  JsonReader reader(json, "resolve job", reason::kBadRequest);
  reader.text("resolve", step).text("index_url", job.index_url).text("lock", job.lock);
  reader.boolean("build", job.build);
  if (const Json* debian = reader.value("debian"); debian != nullptr && debian->is_array()) {
    for (const Json& name : *debian)
      job.debian.push_back(name.is_string() ? name.get<std::string>() : "");
  }
  TRY(reader.finish());
  job.step = TRY(parse_step(step));
  return job;
}

std::optional<ConnectRequest> parse_connect_request(std::string_view message) {
  if (message.size() > kMaxMessage) return std::nullopt;
  const auto json = parse_json(message, "message");
  if (!json || !json->is_object() || !json->contains("connect")) return std::nullopt;
  const Json& connect = (*json)["connect"];
  if (!connect.is_object()) return std::nullopt;
  ConnectRequest request;
  std::uint32_t port = 0;
  JsonReader reader(connect, "connect", reason::kBadRequest);
  reader.text("host", request.host).integer("port", port, 1U, 65535U);
  if (!reader.finish() || request.host.empty()) return std::nullopt;
  request.port = static_cast<std::uint16_t>(port);
  return request;
}

Result<Resolved> parse_resolved(std::string_view text) {
  if (text.size() > kMaxResolved)
    return refuse(reason::kPublishFailed, "the lock of the packages is too long");
  const auto json = parse_json(text, "resolved.json");
  if (!json) return refuse(reason::kPublishFailed, "installing packages left no result");
  Resolved resolved;
  std::string refused;
  std::string next;
  JsonReader reader(*json, "resolved.json", reason::kPublishFailed);
  reader.text("lock", resolved.lock).text("refused", refused).text("next", next);
  TRY(reader.finish());
  if (!refused.empty()) {
    return refuse(reason::kInvalidModel,
                  fmt::format("packages cannot be installed: {}", refused.substr(0, kMaxWords)));
  }
  if (!next.empty()) resolved.next = TRY(parse_step(next));
  return resolved;
}

}  // namespace mayfly
