// The node itself: status, top, doctor, metrics, usage, garbage, backups.
#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "gateway/access.h"
#include "gateway/control_api.h"
#include "gateway/openapi_document.h"
#include "meter/ledger_reader.h"
#include "registry/gc.h"
#include "sandbox/doctor.h"
#include "serving/traffic_json.h"

namespace mayfly {
namespace {

struct Sums {
  std::uint64_t idle = 0;
  std::uint64_t running = 0;
  std::uint64_t starting = 0;
  std::uint64_t ready = 0;
  std::uint64_t building = 0;
};

Sums sums_of(const DispatchStatus& status) {
  Sums sums;
  for (const VersionStatus& version : status.versions) {
    sums.idle += version.idle;
    sums.running += version.running;
    sums.starting += version.starting;
    sums.ready += version.tmpl.state == TemplateState::Ready ? 1 : 0;
    sums.building += version.tmpl.state == TemplateState::Building ? 1 : 0;
  }
  return sums;
}

Json version_json(const VersionStatus& version) {
  const std::string_view label = local_name(version.label);
  Json about{{"label", label},
             {"name", label.substr(0, label.find('@'))},
             {"template", to_string(version.tmpl.state)},
             {"templates", version.tmpl.state == TemplateState::Ready ? 1 : 0},
             {"instances", version.starting + version.idle + version.running},
             {"idle", version.idle},
             {"running", version.running},
             {"starting", version.starting},
             {"queued", version.queued},
             {"rate", version.calls_per_second},
             {"memory_bytes", version.memory.count},
             {"why", ""}};
  if (!version.decisions.empty()) {
    const DecisionRecord& last = version.decisions.front();
    about["why"] = fmt::format("{}: {}", to_string(last.action), explain(last.why));
  }
  if (!version.tmpl.cause.empty()) about["last_failure"] = version.tmpl.cause;
  return about;
}

// "24h" ago, or a time; empty: everything.
Result<WallTime> since_of(const Exchange& exchange, const Clock& clock) {
  const std::string since = exchange.head().query("since").value_or("");
  if (since.empty()) return WallTime{};
  if (const auto ago = parse_duration(since)) return clock.wall_now() - *ago;
  return parse_time(since);
}

Json bill_json(const Bill& bill) {
  Json rows = Json::array();
  for (const BillLine& line : bill.lines) {
    constexpr Uint128 kGibMicrosecond = Uint128{1} << 30;
    const Uint128 nano_gib_seconds = line.usage.memory_time * 1000 / kGibMicrosecond;
    rows.push_back({{"project", line.project},
                    {"function", line.function},
                    {"version", line.version},
                    {"requests", line.usage.requests},
                    {"errors", line.usage.errors},
                    {"refused", line.usage.refused},
                    {"starts",
                     {{"hot", line.usage.starts[0]},
                      {"template", line.usage.starts[1]},
                      {"cold", line.usage.starts[2]},
                      {"origin", line.usage.starts[3]}}},
                    {"queue_us", line.usage.queue_us},
                    {"start_us", line.usage.start_us},
                    {"run_us", line.usage.run_us},
                    {"cpu_us", line.usage.cpu_us},
                    {"waited_us", line.usage.waited_us},
                    {"bytes_in", line.usage.bytes_in},
                    {"bytes_out", line.usage.bytes_out},
                    {"gb_seconds", decimal(nano_gib_seconds)},
                    {"cpu_seconds", decimal(Uint128{line.usage.cpu_us} * 1000)},
                    {"price", decimal(line.cost())}});
  }
  return {{"rows", std::move(rows)}, {"total", decimal(bill.total)}};
}

Json object_store_json(const S3Client& store) {
  Json about{{"endpoint", store.place().endpoint()},
             {"bucket", store.place().bucket()},
             {"answers", true}};
  if (const auto away = store.away()) {
    about["answers"] = false;
    about["away_since"] = format_time(away->since);
    about["error"] = away->error;
  }
  return about;
}

}  // namespace

// The processes of functions that the caller may see. What the whole node has taken is for those
// who look after it; others see what these processes take.
DispatchStatus ControlApi::status_for(const Principal& caller) const {
  DispatchStatus status = parts_.dispatcher.status();
  std::erase_if(status.versions, [&](const VersionStatus& version) {
    return !may_see(caller, version.label.substr(0, version.label.find('@')));
  });
  if (check_access(caller, Needs::Node, "")) return status;
  status.node.queued = 0;
  status.node.tokens_used = 0;
  status.node.memory_used = {};
  for (const VersionStatus& version : status.versions) {
    status.node.queued += version.queued;
    status.node.tokens_used += version.tokens;
    status.node.memory_used.count += version.memory.count;
  }
  return status;
}

// With what traffic means for each version.
Json ControlApi::describe_versions(const DispatchStatus& status) const {
  Json list = Json::array();
  for (const VersionStatus& version : status.versions) {
    Json about = version_json(version);
    const std::string_view name =
        std::string_view(version.label).substr(0, version.label.find('@'));
    if (const FunctionTable::Entry function = parts_.catalog.table()->find(name)) {
      about["weight"] = weight_of(*function, {version.key.version});
      about["shadow"] = shadow_of(*function, {version.key.version});
    }
    const auto rollout = parts_.rollouts.standing(name);
    if (rollout && rollout->version.value == version.key.version) about["rollout"] = rollout->text;
    list.push_back(std::move(about));
  }
  return list;
}

Result<Response> ControlApi::status(const Route& route) const {
  const DispatchStatus now = status_for(*route.caller);
  const auto functions = std::ranges::count_if(
      parts_.catalog.table()->all(),
      [&](const FunctionTable::Entry& entry) { return may_see(*route.caller, entry->name.str()); });
  const Sums sums = sums_of(now);
  const double uptime = std::chrono::duration<double>(parts_.loop.now() - started_).count();
  Json about{{"ready", parts_.ready()},
             {"uptime_s", uptime},
             {"function_count", functions},
             {"instances", sums.idle + sums.running + sums.starting},
             {"templates", sums.ready + sums.building},
             {"queued", now.node.queued},
             {"cpu_tokens", now.node.tokens},
             {"cpu_tokens_used", now.node.tokens_used},
             {"memory_bytes", now.node.memory_used.count},
             {"memory_budget_bytes", now.node.memory.count},
             {"isolation", parts_.isolation},
             {"functions", describe_versions(now)}};
  // Where the node's bytes are is for those who look after it.
  if (parts_.objects != nullptr && check_access(*route.caller, Needs::Node, ""))
    about["object_store"] = object_store_json(*parts_.objects);
  return json_response(about);
}

Result<Response> ControlApi::top(const Route& route) const {
  return json_response({{"functions", describe_versions(status_for(*route.caller))}});
}

// Of functions, the signature of their champion.
Task<Result<Response>> ControlApi::openapi(const Route& route) {
  const Registry::Snapshot table = parts_.catalog.table();
  const auto write = [&]() -> Result<std::string> {
    std::vector<std::shared_ptr<const Manifest>> manifests;
    std::vector<DescribedFunction> described;
    for (const FunctionTable::Entry& function : table->all()) {
      if (!may_see(*route.caller, function->name.str())) continue;
      const VersionEntry* champion = function->find(function->current);
      manifests.push_back(TRY(parts_.registry.manifest(champion->content->manifest)));
      described.push_back({.name = local_name(function->name.str()),
                           .signature = &manifests.back()->signature,
                           .documents = manifests.back()->documents});
    }
    return openapi_document(described);
  };
  CO_TRY(std::string document, co_await parts_.pool.run(write));
  Response response{.status = 200, .headers = {}, .body = std::move(document)};
  response.headers.add("Content-Type", "application/json");
  co_return response;
}

Task<Result<Response>> ControlApi::doctor() {
  Json list = Json::array();
  const auto layers = co_await parts_.pool.run([&] { return examine_layers(parts_.cgroups); });
  for (const LayerHealth& layer : layers) {
    list.push_back({{"layer", to_string(layer.layer)},
                    {"state", to_string(layer.state)},
                    {"detail", layer.detail},
                    {"mend", layer.mend}});
  }
  co_return json_response({{"layers", std::move(list)}});
}

std::optional<SpanExporter::Counts> ControlApi::spans_exported() const {
  if (parts_.spans == nullptr) return std::nullopt;
  return parts_.spans->counts();
}

Result<Response> ControlApi::metrics() const {
  const DispatchStatus now = parts_.dispatcher.status();
  const Sums sums = sums_of(now);
  std::string text =
      parts_.metrics.expose({.functions = parts_.catalog.table()->size(),
                             .instances_idle = sums.idle,
                             .instances_running = sums.running,
                             .instances_starting = sums.starting,
                             .templates_ready = sums.ready,
                             .templates_building = sums.building,
                             .environments_ready = now.node.environments.ready,
                             .environments_preparing = now.node.environments.preparing,
                             .environments_bytes = now.node.environments.memory.count,
                             .queued = now.node.queued,
                             .memory_bytes = now.node.memory_used.count,
                             .memory_budget_bytes = now.node.memory.count,
                             .connections = parts_.connections(),
                             .cache = parts_.cache.counts(),
                             .scrub = parts_.scrub.counts(),
                             .spans = spans_exported()});
  text +=
      "# HELP mayfly_decisions_total What the scaling policy decided, and why\n# TYPE "
      "mayfly_decisions_total counter\n";
  for (std::size_t action = 0; action < kActions; ++action) {
    for (std::size_t why = 0; why < kWhys; ++why) {
      const std::uint64_t count = now.node.decisions[action][why];
      if (count == 0) continue;
      text +=
          fmt::format("mayfly_decisions_total{{action=\"{}\",why=\"{}\"}} {}\n",
                      to_string(static_cast<Action>(action)), slug(static_cast<Why>(why)), count);
    }
  }
  if (parts_.objects != nullptr)
    text += metrics_of(parts_.objects->counts(), parts_.objects->away().has_value());
  return Response{.status = 200,
                  .headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}},
                  .body = std::move(text)};
}

Task<Result<Response>> ControlApi::usage(const Exchange& exchange, const Route& route) {
  CO_TRY(const WallTime since, since_of(exchange, parts_.loop.clock()));
  const std::string function = exchange.head().query("function").value_or("");
  const HourRange range{.from = hour_of(since)};
  CO_TRY(const Bill bill, co_await parts_.pool.run([&]() -> Result<Bill> {
    const UsageTable all = TRY(read_usage(parts_.ledger.folder(), range));
    UsageTable wanted;
    for (const auto& [key, row] : all.rows()) {
      const bool own = key.project == route.caller->project &&
                       check_access(*route.caller, Needs::Read, key.function);
      if (own && (function.empty() || key.function == function)) wanted.add(key, row);
    }
    return make_bill(wanted, parts_.prices);
  }));
  Json answer = bill_json(bill);
  answer["since"] = since == WallTime{} ? "" : format_time(start_of(range.from));
  co_return json_response(answer);
}

Task<Result<Response>> ControlApi::collect(const Exchange& exchange) {
  const bool dry = exchange.head().query("dry_run").value_or("") == "true";
  const GcScope scope{parts_.data, parts_.registry, parts_.blobs, parts_.pins, parts_.loop.clock()};
  const GcOptions options{.mode = dry ? GcMode::DryRun : GcMode::Collect};
  CO_TRY(const GcReport report,
         co_await parts_.pool.run([&] { return collect_garbage(scope, options); }));
  if (!dry) {
    CO_TRY_STATUS(co_await parts_.pool.run([&]() -> Status {
      const LiveContent live = TRY(parts_.registry.live_content({}));
      const WallTime unused_since = parts_.loop.clock().wall_now() - options.grace;
      return parts_.owners.collect(live.by_project, unused_since, parts_.blobs);
    }));
    parts_.catalog.publish(parts_.registry.snapshot());
    LOG(info, "garbage collected", {"blobs", report.blobs.size()}, {"bytes", report.freed.count});
  }
  Json versions = Json::array();
  for (const FunctionVersion& version : report.versions) {
    const FunctionTable::Entry function = parts_.catalog.table()->find(version.function.str());
    if (!dry && function) {
      const FunctionId id{static_cast<std::uint64_t>(function->id)};
      parts_.dispatcher.retire(VersionKey{id, version.number.value});
    }
    versions.push_back(fmt::format("{}@{}", version.function.str(), version.number.value));
  }
  co_return json_response(
      {{"dry_run", dry},
       {"objects", report.blobs.size() + report.partials.size() + report.compiled.size()},
       {"blobs", report.blobs.size()},
       {"partial_uploads", report.partials.size()},
       {"compiled", report.compiled},
       {"versions", std::move(versions)},
       {"bytes", report.freed.count},
       {"kept_blobs", report.kept_blobs},
       {"young_blobs", report.young_blobs}});
}

Task<Result<Response>> ControlApi::backup(Exchange& exchange) {
  CO_TRY(const std::string text, co_await read_control_body(exchange));
  CO_TRY(const Json json, parse_json(text, "body"));
  std::string directory;
  JsonReader reader(json, "body", reason::kBadRequest);
  reader.text("directory", directory);
  CO_TRY_STATUS(reader.finish());
  if (!Path(directory).is_absolute())
    co_return refuse(reason::kBadRequest, "body: 'directory' must be an absolute path");
  const BackupSource source{parts_.data, parts_.registry, parts_.blobs, parts_.pins, parts_.backup};
  CO_TRY(const BackupManifest done,
         co_await parts_.pool.run([&] { return back_up(source, directory); }));
  co_return json_response(
      {{"directory", directory}, {"files", done.files.size()}, {"bytes", done.size().count}});
}

}  // namespace mayfly
