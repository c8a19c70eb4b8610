#include "lineage/lineage.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "lineage/json_parts.h"
#include "lineage/training_record.h"
#include "meter/ledger_reader.h"
#include "serving/traffic_json.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostAncestors = 1000;
// A record is written when its invocation ends; clocks may step back a little.
constexpr Duration kBefore = std::chrono::minutes(10);
constexpr Duration kAfter = std::chrono::hours(25);

Json json_in(const std::string& text) {
  Json json = Json::parse(text, nullptr, false);
  return json.is_discarded() ? Json() : json;
}

Json erased_json(const SnapshotRecord& snapshot) {
  return {{"time", format_time(snapshot.erased_at)},
          {"by", snapshot.erased_by},
          {"reason", snapshot.reason}};
}

Json serves_json(const FunctionEntry& function, VersionNumber version) {
  return {{"champion", function.current == version && !function.routing->waiting},
          {"weight", weight_of(function, version)},
          {"shadow", shadow_of(function, version)},
          {"aliases", aliases_of(function, version)}};
}

// The milliseconds that a UUID version 7 begins with.
std::optional<WallTime> time_of(std::string_view id) {
  if (id.size() != 36 || id[8] != '-') return std::nullopt;
  const std::string digits = std::string(id.substr(0, 8)) + std::string(id.substr(9, 4));
  std::uint64_t ms = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), ms, 16);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return WallTime(std::chrono::milliseconds(ms));
}

// Of a record that may come from elsewhere.
Json part(const Json& record, std::initializer_list<std::string_view> keys) {
  Json some = Json::object();
  for (const std::string_view key : keys)
    if (const Json& found = at(record, key); !found.is_null()) some[std::string(key)] = found;
  return some;
}

Json short_gate(const Json& record) { return part(at(record, "gate"), {"passed", "why"}); }

}  // namespace

Result<std::optional<Json>> find_training_record(Registry& registry, const BlobStore& blobs,
                                                 const FunctionName& function,
                                                 VersionNumber version) {
  const auto training = TRY(registry.training(function, version));
  if (!training) return std::nullopt;
  const Fd file = TRY(blobs.open(training->record));
  const std::string text = TRY(read_all_fd(file.get(), kMaxTrainingRecord));
  if (sha256(text) != training->record)
    return fail(Code::DataLoss,
                fmt::format("the training record {} is damaged", to_string(training->record)));
  return TRY(parse_training_record(text));
}

Result<std::optional<Json>> Lineage::record(const FunctionName& function,
                                            VersionNumber version) const {
  return find_training_record(parts_.registry, parts_.blobs, function, version);
}

Json Lineage::describe_job(const std::string& id) const {
  const auto job = parts_.jobs.find(id);
  if (!job || !*job) return {{"id", id}, {"kept", false}};
  const JobRecord& found = **job;
  return {{"id", id},
          {"kept", true},
          {"kind", to_string(found.spec.kind)},
          {"state", to_string(found.state)},
          {"caller", found.spec.caller},
          {"submitted", format_time(found.spec.submitted)}};
}

// With all that it was appended to.
Result<Json> Lineage::describe_data(std::string_view project,
                                    const VersionTraining::Data& data) const {
  Json about{{"dataset", local_name(data.dataset)}, {"snapshot", data.snapshot}};
  const auto dataset = parts_.datasets.find(project, local_name(data.dataset));
  if (!dataset) {
    about["kept"] = false;
    return about;
  }
  about["made_of"] = Json::array();
  for (std::uint32_t number = data.snapshot;
       number > 0 && about["made_of"].size() < kMostAncestors;) {
    const SnapshotRecord snapshot = TRY(parts_.datasets.snapshot(*dataset, number));
    Json one{{"snapshot", snapshot.number},          {"kind", to_string(snapshot.kind)},
             {"digest", to_string(snapshot.digest)}, {"created", format_time(snapshot.created)},
             {"created_by", snapshot.created_by},    {"job", snapshot.job},
             {"rows", snapshot.rows.all()},          {"sources", json_in(snapshot.sources)}};
    if (snapshot.erased) one["erased"] = erased_json(snapshot);
    if (snapshot.erased && number == data.snapshot) about["erased"] = erased_json(snapshot);
    about["made_of"].push_back(std::move(one));
    number = snapshot.kind == SnapshotKind::Append ? snapshot.parent : 0;
  }
  return about;
}

Result<Json> Lineage::of_version(const FunctionName& function, VersionNumber version) const {
  const ResolvedVersion resolved =
      TRY(parts_.registry.snapshot()->resolve({.function = function, .version = version}));
  const std::string_view project = project_of(function.str());
  Json about{{"function", local_name(function.str())}, {"version", version.value}};
  const std::vector<VersionRow> rows = TRY(parts_.registry.versions(function));
  const auto row = std::ranges::find(rows, version.value, &VersionRow::number);
  if (row != rows.end()) {
    about["created"] = format_time(row->created);
    about["deployed_by"] = row->deployed_by;
    about["artifact"] = to_string(row->artifact);
    about["manifest"] = to_string(row->manifest);
    if (!row->provenance.key.empty()) about["key"] = row->provenance.key;
    if (row->provenance.origin != "{}") about["imported"] = json_in(row->provenance.origin);
  }
  about["serves"] = serves_json(*resolved.function, version);
  const auto training = TRY(parts_.registry.training(function, version));
  about["training"] = Json();
  about["jobs"] = Json::array();
  about["data"] = Json::array();
  if (!training) return about;
  if (const auto said = TRY(record(function, version))) {
    about["training"] = part(*said, {"job", "trial", "score", "created", "trigger", "parent",
                                     "outcome", "task", "target", "trainer"});
    about["training"]["record"] = to_string(training->record);
    about["training"]["gate"] = short_gate(*said);
    for (const char* key : {"job", "trial", "score"}) {
      const std::string id = text_at(*said, key);
      if (!training->job.empty() && !id.empty()) about["jobs"].push_back(describe_job(id));
    }
  }
  for (const VersionTraining::Data& data : training->data)
    about["data"].push_back(TRY(describe_data(project, data)));
  return about;
}

Result<Json> Lineage::of_invocation(std::string_view project, std::string_view id) const {
  const auto time = time_of(id);
  std::optional<InvocationRecord> found;
  if (time) {
    const TimeRange range{.from = *time - kBefore, .until = *time + kAfter};
    TRY(for_each_record(parts_.ledger, range, [&](const InvocationRecord& record) -> Status {
      if (record.project == project && to_string(record.invocation) == id) found = record;
      return {};
    }));
  }
  if (!found) {
    return refuse(reason::kNotFound,
                  fmt::format("no invocation '{}' is recorded", id.substr(0, 64)));
  }
  const FunctionName function = TRY(FunctionName::parse(qualified_name(project, found->function)));
  Json about{{"invocation",
              {{"id", id},
               {"time", format_time(found->time)},
               {"function", found->function},
               {"version", found->version.value},
               {"caller", found->caller},
               {"request_id", found->request_id}}}};
  const auto version = of_version(function, found->version);
  if (version) {
    about.update(*version);
  } else {
    about["gone"] = without_project(project, version.error().message);
  }
  return about;
}

Result<Json> Lineage::versions_on(std::string_view project, std::string_view dataset,
                                  std::uint32_t snapshot) const {
  const std::vector<FunctionVersion> versions =
      TRY(parts_.registry.trained_on(qualified_name(project, dataset), snapshot));
  const Registry::Snapshot table = parts_.registry.snapshot();
  Json list = Json::array();
  for (const auto& [function, number] : versions) {
    const FunctionTable::Entry entry = table->find(function.str());
    if (!entry || entry->find(number) == nullptr) continue;
    list.push_back({{"function", local_name(function.str())},
                    {"version", number.value},
                    {"serves", serves_json(*entry, number)}});
  }
  return list;
}

Result<Json> Lineage::of_snapshot(std::string_view project, std::string_view name,
                                  std::uint32_t number) const {
  const DatasetRecord dataset = TRY(parts_.datasets.find(project, name));
  const SnapshotRecord snapshot = TRY(parts_.datasets.snapshot(dataset, number));
  Json about{{"dataset", dataset.name},
             {"snapshot", snapshot.number},
             {"digest", to_string(snapshot.digest)},
             {"sources", json_in(snapshot.sources)}};
  if (snapshot.erased) about["erased"] = erased_json(snapshot);
  about["versions"] = TRY(versions_on(project, dataset.name, snapshot.number));
  // Its rows are among those of every snapshot that was appended to it.
  about["contained_in"] = Json::array();
  std::vector<SnapshotRecord> all = TRY(parts_.datasets.snapshots(dataset, kMostAncestors));
  std::ranges::sort(all, {}, &SnapshotRecord::number);
  std::vector<std::uint32_t> holders{snapshot.number};
  for (const SnapshotRecord& later : all) {
    const bool holds = later.kind == SnapshotKind::Append &&
                       std::ranges::find(holders, later.parent) != holders.end();
    if (!holds) continue;
    holders.push_back(later.number);
    Json one{{"snapshot", later.number},
             {"versions", TRY(versions_on(project, dataset.name, later.number))}};
    if (later.erased) one["erased"] = erased_json(later);
    about["contained_in"].push_back(std::move(one));
  }
  return about;
}

Result<Json> Lineage::summary(const FunctionName& function, VersionNumber version) const {
  const auto training = TRY(parts_.registry.training(function, version));
  if (!training) return Json();
  const auto said = TRY(record(function, version));
  Json about = part(*said, {"job", "outcome", "task", "target", "metric", "parent", "looks"});
  about["trainer"] = at(at(*said, "trainer"), "kind");
  for (const char* split : {"valid", "test"}) {
    const Json& value = at(at(at(*said, "metrics"), split), text_at(*said, "metric"));
    if (!value.is_null()) about["metrics"][split] = value;
  }
  about["gate"] = short_gate(*said);
  about["data"] = Json::array();
  const std::string_view project = project_of(function.str());
  for (const VersionTraining::Data& data : training->data) {
    Json one{{"dataset", local_name(data.dataset)}, {"snapshot", data.snapshot}};
    const auto dataset = parts_.datasets.find(project, local_name(data.dataset));
    if (dataset) {
      const auto snapshot = parts_.datasets.snapshot(*dataset, data.snapshot);
      if (snapshot && snapshot->erased) one["erased"] = erased_json(*snapshot);
    }
    about["data"].push_back(std::move(one));
  }
  return about;
}

}  // namespace mayfly
