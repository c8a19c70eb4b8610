// Functions, versions and settings.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "gateway/access.h"
#include "gateway/control_api.h"
#include "gateway/import.h"
#include "gateway/webhook_api.h"
#include "meter/ledger_reader.h"
#include "serving/guest.h"
#include "serving/traffic_json.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kRecent = 10min;
constexpr std::uint32_t kHistoryLines = 200;

Json parsed_or_empty(const std::string& text) {
  const Json json = Json::parse(text, nullptr, false);
  return json.is_discarded() ? Json::object() : json;
}

Json specs_json(const std::vector<TensorSpec>& specs) {
  Json list = Json::array();
  for (const TensorSpec& spec : specs) {
    list.push_back(
        {{"name", spec.name}, {"datatype", to_string(spec.type)}, {"shape", spec.shape}});
  }
  return list;
}

struct Counts {
  std::uint64_t instances = 0;
  std::uint64_t templates = 0;
  std::uint64_t queued = 0;
};

Counts counts_of(const DispatchStatus& status, std::int64_t function) {
  Counts counts;
  for (const VersionStatus& version : status.versions) {
    if (version.key.function.value != static_cast<std::uint64_t>(function)) continue;
    counts.instances += version.starting + version.idle + version.running;
    counts.templates += version.tmpl.state == TemplateState::Ready ? 1 : 0;
    counts.queued += version.queued;
  }
  return counts;
}

std::string_view state_of(const Counts& counts) {
  if (counts.instances > 0) return "running";
  return counts.templates > 0 ? "template" : "zero";
}

Json settings_json(const FunctionSettings& settings) { return parsed_or_empty(to_json(settings)); }

}  // namespace

Task<Result<Response>> ControlApi::list_functions(const Route& route) {
  const DispatchStatus status = parts_.dispatcher.status();
  Json list = Json::array();
  for (const auto& entry : parts_.catalog.table()->all()) {
    if (!may_see(*route.caller, entry->name.str())) continue;
    const Counts counts = counts_of(status, entry->id);
    list.push_back({{"name", local_name(entry->name.str())},
                    {"version", entry->current.value},
                    {"versions", entry->versions.size()},
                    {"state", state_of(counts)},
                    {"instances", counts.instances},
                    {"templates", counts.templates},
                    {"queued", counts.queued},
                    {"created", format_time(entry->created)}});
  }
  co_return json_response({{"functions", std::move(list)}});
}

namespace {

// What batches of the version take, by size: what `auto` goes by.
Json batching_json(const BatchStatus& batching) {
  const auto micros = [](Duration duration) {
    return std::chrono::duration<double, std::micro>(duration).count();
  };
  Json sizes = Json::array();
  for (const BatchTuner::Size& size : batching.sizes) {
    sizes.push_back({{"rows", size.rows}, {"batches", size.batches}, {"row_us", micros(size.row)}});
  }
  return {{"max_rows", batching.cap},
          {"unbatched_us", micros(batching.alone)},
          {"sizes", std::move(sizes)}};
}

}  // namespace

Json ControlApi::describe_processes(std::string_view label) const {
  const DispatchStatus status = parts_.dispatcher.status();
  Json about{{"template", "none"}, {"idle", 0},   {"running", 0},
             {"starting", 0},      {"queued", 0}, {"memory_bytes", 0}};
  for (const VersionStatus& version : status.versions) {
    if (version.label != label) continue;
    about["template"] = to_string(version.tmpl.state);
    about["idle"] = version.idle;
    about["running"] = version.running;
    about["starting"] = version.starting;
    about["queued"] = version.queued;
    about["memory_bytes"] = version.memory.count;
    if (version.batching) about["batching"] = batching_json(*version.batching);
    if (!version.tmpl.cause.empty()) about["last_failure"] = version.tmpl.cause;
    Json decisions = Json::array();
    for (const DecisionRecord& decision : version.decisions) {
      decisions.push_back(
          {{"seconds_ago", std::chrono::duration<double>(status.at - decision.at).count()},
           {"action", to_string(decision.action)},
           {"times", decision.times},
           {"why", fmt::format("{}: {}", to_string(decision.action), explain(decision.why))}});
    }
    about["decisions"] = std::move(decisions);
  }
  return about;
}

// What the scrub took away of a version: files that must be uploaded again, and forms that are made
// again by a start.
Task<Json> ControlApi::describe_integrity(Digest artifact,
                                          std::shared_ptr<const Manifest> manifest) {
  co_return co_await parts_.pool.run([&] {
    Json missing = Json::array();
    for (const ArtifactFile& file : manifest->files) {
      const auto blob = parts_.blobs.find(parse_digest(file.sha256).value_or(Digest{}));
      if (blob && !*blob) missing.push_back(file.path);
    }
    Json forms = Json::array();
    const std::string prefix = quarantined_name(Damage::Kind::Form, to_string(artifact));
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(parts_.data.quarantine(), none)) {
      const std::string name = entry.path().filename();
      if (name.starts_with(prefix)) forms.push_back(name);
    }
    const bool whole = missing.empty();
    return Json{{"whole", whole},
                {"missing_files", std::move(missing)},
                {"quarantined_forms", std::move(forms)}};
  });
}

Task<Result<Response>> ControlApi::describe(const Route& route) {
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(route.name, route.version));
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(resolved));
  const FunctionName name = resolved.function->name;
  CO_TRY(const std::vector<VersionRow> rows,
         co_await parts_.pool.run([&] { return parts_.registry.versions(name); }));
  CO_TRY(const std::vector<SigningKeyRow> keys,
         co_await parts_.pool.run([&] { return parts_.signing.list(project_of(name.str())); }));
  Json about{{"name", serving->name()}, {"version", serving->version.value}};
  Json processes = describe_processes(serving->runtime->label);
  about["state"] =
      processes["template"] == "none" && processes["idle"] == 0 && processes["running"] == 0
          ? "zero"
          : "running";
  about["next_start"] = to_string(parts_.dispatcher.next_start(*serving->runtime));
  about["current"] = resolved.function->current == serving->version;
  about["weight"] = weight_of(*resolved.function, serving->version);
  about["traffic"] = describe_traffic(*resolved.function);
  about["rollout"] = parts_.rollouts.describe(name);
  about["inputs"] = specs_json(serving->signature().inputs);
  about["outputs"] = specs_json(serving->signature().outputs);
  const Json manifest = parsed_or_empty(to_json(*serving->manifest));
  about["options"] = manifest.value("options", Json::object());
  about["session_after_fork"] = serving->manifest->session_after_fork;
  about["streams"] = serving->manifest->streams;
  about["files"] = manifest.value("files", Json::array());
  if (manifest.contains("environment")) about["environment"] = manifest["environment"];
  about["settings"] = settings_json(*serving->settings);
  for (const VersionRow& row : rows) {
    if (row.number != serving->version.value) continue;
    about["created"] = format_time(row.created);
    about["deployed_by"] = row.deployed_by;
    about["artifact"] = to_string(row.artifact);
    about["measured"] = parsed_or_empty(row.report);
    about["provenance"] = provenance_json(row.provenance, keys);
    about["integrity"] = co_await describe_integrity(row.artifact, serving->manifest);
  }
  CO_TRY(Json training,
         co_await parts_.pool.run([&] { return parts_.training(name, serving->version); }));
  if (!training.is_null()) about["training"] = std::move(training);
  about["decisions"] = processes.value("decisions", Json::array());
  processes.erase("decisions");
  if (processes.contains("batching")) about["batching"] = processes["batching"];
  processes.erase("batching");
  about["processes"] = std::move(processes);
  co_return json_response(about);
}

Task<Result<Response>> ControlApi::list_versions(const Route& route) {
  CO_TRY(const FunctionName name, FunctionName::parse(route.name));
  CO_TRY(const std::vector<VersionRow> rows,
         co_await parts_.pool.run([&] { return parts_.registry.versions(name); }));
  CO_TRY(const std::vector<SigningKeyRow> keys,
         co_await parts_.pool.run([&] { return parts_.signing.list(project_of(name.str())); }));
  CO_TRY(const ResolvedVersion current, parts_.catalog.resolve(route.name, ""));
  const DispatchStatus status = parts_.dispatcher.status();
  const FunctionEntry& function = *current.function;
  Json list = Json::array();
  for (const VersionRow& row : rows) {
    const auto running = std::ranges::find(
        status.versions, fmt::format("{}@{}", name.str(), row.number), &VersionStatus::label);
    list.push_back({{"version", row.number},
                    {"current", row.number == function.current.value},
                    {"weight", weight_of(function, {row.number})},
                    {"shadow", shadow_of(function, {row.number})},
                    {"aliases", aliases_of(function, {row.number})},
                    {"state", running == status.versions.end() ? "zero" : "running"},
                    {"artifact", to_string(row.artifact)},
                    {"manifest", to_string(row.manifest)},
                    {"created", format_time(row.created)},
                    {"deployed_by", row.deployed_by},
                    {"provenance", provenance_json(row.provenance, keys)},
                    {"measured", parsed_or_empty(row.report)}});
  }
  co_return json_response({{"versions", std::move(list)}});
}

// From the ledger, so that it also holds after a restart.
Task<bool> ControlApi::called_recently(std::string function) {
  const TimeRange range{.from = parts_.loop.clock().wall_now() - kRecent};
  bool found = false;
  const Status read = co_await parts_.pool.run([&] {
    return for_each_record(parts_.ledger.folder(), range,
                           [&](const InvocationRecord& record) -> Status {
                             found = found || (record.project == project_of(function) &&
                                               record.function == local_name(function));
                             return {};
                           });
  });
  co_return found || !read;
}

Task<Result<Response>> ControlApi::remove(const Exchange& exchange, const Route& route) {
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(route.name, ""));
  const FunctionName name = resolved.function->name;
  const bool force = exchange.head().query("force").value_or("") == "true";
  if (!force && co_await called_recently(name.str())) {
    co_return refuse(
        reason::kRecentTraffic,
        fmt::format("{} was called in the last 10 minutes; confirm with --yes (?force=true)",
                    local_name(name.str())));
  }
  if (!force) {
    CO_TRY_STATUS(co_await check_callers(name));
  }
  const Author author{.who = author_of(exchange, route), .why = "delete"};
  CO_TRY_STATUS(co_await parts_.pool.run([&] { return parts_.registry.remove(name, author); }));
  parts_.catalog.publish(parts_.registry.snapshot());
  const FunctionId id{static_cast<std::uint64_t>(resolved.function->id)};
  parts_.dispatcher.retire(id);
  parts_.dispatcher.retire(guest_id(id, GuestKind::Event));
  parts_.shadows.forget(id);
  parts_.cache.forget(id);
  parts_.catalog.forget(name.str());
  parts_.metrics.forget(name.str());
  parts_.statistics.forget(name.str());
  parts_.logs.forget(name.str());
  LOG(info, "function deleted", {"function", name.str()}, {"who", author.who});
  co_return json_response({{"deleted", local_name(name.str())}});
}

Result<Response> ControlApi::settings(const Route& route) const {
  const ResolvedVersion resolved = TRY(parts_.catalog.resolve(route.name, ""));
  return json_response(settings_json(*resolved.function->settings));
}

// Of a change to them: what was set before stays, whatever became of it.
Status ControlApi::check_settings(const Route& route, std::string_view changes) const {
  const ResolvedVersion resolved = TRY(parts_.catalog.resolve(route.name, ""));
  const FunctionSettings& before = *resolved.function->settings;
  const FunctionSettings after = TRY(apply_settings(before, changes));
  TRY(rollout::parse_plan(after.rollout));
  for (const auto member : {&FunctionSettings::on_success, &FunctionSettings::on_failure}) {
    if (after.*member != before.*member)
      TRY(check_destination(after.*member, *route.caller, parts_.catalog, parts_.egress));
  }
  return {};
}

Task<Result<Response>> ControlApi::change_settings(Exchange& exchange, const Route& route) {
  CO_TRY(const FunctionName name, FunctionName::parse(route.name));
  CO_TRY(const std::string changes, co_await read_control_body(exchange));
  CO_TRY_STATUS(check_settings(route, changes));
  const Author author{.who = author_of(exchange, route), .why = "configure"};
  CO_TRY(const FunctionSettings settings, co_await parts_.pool.run([&] {
    return parts_.registry.configure(name, changes, author);
  }));
  parts_.catalog.publish(parts_.registry.snapshot());
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(name.str(), ""));
  CO_TRY(const ServingRef serving, co_await parts_.catalog.find(resolved));
  if (!resolved.function->routing->waiting)
    parts_.dispatcher.serve(serving->runtime, serving->settings, serving->sequence);
  LOG(info, "function configured", {"function", name.str()}, {"change", changes});
  co_return json_response(settings_json(settings));
}

Json history_json(const std::vector<Change>& changes) {
  Json list = Json::array();
  for (const Change& change : changes) {
    list.push_back({{"sequence", change.sequence},
                    {"time", format_time(change.time)},
                    {"who", change.who},
                    {"kind", change.kind},
                    {"change", parsed_or_empty(change.detail)}});
  }
  return list;
}

Task<Result<Response>> ControlApi::history(const Route& route) {
  CO_TRY(const FunctionName name, FunctionName::parse(route.name));
  CO_TRY(const std::vector<Change> changes,
         co_await parts_.pool.run([&] { return parts_.registry.history(name, kHistoryLines); }));
  if (changes.empty()) {  // of a deleted function it stays
    co_return refuse(reason::kUnknownFunction, fmt::format("no function '{}'", name.str()));
  }
  co_return json_response({{"history", history_json(changes)}});
}

Task<Result<Response>> ControlApi::evict(const Route& route) {
  CO_TRY(const ModelRef ref, parse_model_ref(route.name));
  CO_TRY(const ResolvedVersion resolved, parts_.catalog.resolve(route.name, ""));
  const FunctionId function{static_cast<std::uint64_t>(resolved.function->id)};
  const VersionKey version{function, resolved.version->number.value};
  if (ref.names_version()) {
    parts_.dispatcher.evict(version);
  } else {
    parts_.dispatcher.evict(function);
    parts_.dispatcher.evict(guest_id(function, GuestKind::Event));
  }
  std::uint64_t left = 0;
  for (const VersionStatus& status : parts_.dispatcher.status().versions) {
    const bool meant =
        ref.names_version() ? status.key == version : status.key.function == function;
    if (meant) left += status.starting + status.running;
  }
  co_return json_response({{"evicted", local_name(route.name)}, {"busy", left}});
}

}  // namespace mayfly
