#include "gateway/model_statistics.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/json_reader.h"
#include "core/project.h"
#include "gateway/access.h"

namespace mayfly {
namespace {

Json json_of(const TimesTaken& taken) {
  return {{"count", taken.count}, {"ns", taken.total.count()}};
}

Json batches_of(const VersionStatistics& of) {
  Json list = Json::array();
  for (const auto& [rows, row] : of.by_rows) {
    list.push_back({{"batch_size", rows},
                    {"compute_input", json_of(row.decode)},
                    {"compute_infer", json_of(row.run)},
                    {"compute_output", json_of(row.encode)}});
  }
  return list;
}

Json json_of(const VersionStatistics& of, Bytes memory) {
  Json usage = Json::array();
  if (memory.count > 0) usage.push_back({{"type", "CPU"}, {"id", 0}, {"byte_size", memory.count}});
  return {{"name", local_name(of.function)},
          {"version", std::to_string(of.version.value)},
          {"last_inference", milliseconds_since_epoch(of.last)},
          {"inference_count", of.rows},
          {"execution_count", of.executions},
          {"inference_stats",
           {{"success", json_of(of.success)},
            {"fail", json_of(of.fail)},
            {"queue", json_of(of.queue)},
            {"compute_input", json_of(of.decode)},
            {"compute_infer", json_of(of.run)},
            {"compute_output", json_of(of.encode)},
            {"cache_hit", json_of(of.cache_hit)},
            {"cache_miss", json_of(of.cache_miss)}}},
          {"response_stats", Json::object()},
          {"batch_stats", batches_of(of)},
          {"memory_usage", std::move(usage)}};
}

}  // namespace

Result<std::vector<VersionStatistics>> choose_statistics(const StatisticsSeen& seen,
                                                         std::string_view name,
                                                         std::string_view version) {
  std::vector<VersionStatistics> chosen;
  if (name.empty()) {
    for (const VersionStatistics& of : seen.statistics.all()) {
      if (may_see(seen.caller, of.function)) chosen.push_back(of);
    }
    return chosen;
  }
  const ResolvedVersion resolved = TRY(seen.catalog.resolve(name, version));
  const std::string function = resolved.function->name.str();
  const bool names_one = TRY(Catalog::reference(name, version)).names_version();
  for (const VersionEntry& entry : resolved.function->versions) {
    if (names_one && entry.number != resolved.version->number) continue;
    if (const auto* of = seen.statistics.find(function, entry.number)) chosen.push_back(*of);
  }
  if (chosen.empty()) {
    VersionStatistics unasked;
    unasked.function = function;
    unasked.version = resolved.version->number;
    chosen.push_back(std::move(unasked));
  }
  return chosen;
}

Bytes memory_of(const DispatchStatus& status, const VersionStatistics& version) {
  const auto found = std::ranges::find(
      status.versions, fmt::format("{}@{}", version.function, version.version.value),
      &VersionStatus::label);
  return found == status.versions.end() ? Bytes{} : found->memory;
}

std::uint64_t milliseconds_since_epoch(WallTime time) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count());
}

std::string statistics_json(std::span<const VersionStatistics> chosen,
                            const DispatchStatus& status) {
  Json list = Json::array();
  for (const VersionStatistics& of : chosen) list.push_back(json_of(of, memory_of(status, of)));
  return Json{{"model_stats", std::move(list)}}.dump(-1, ' ', false,
                                                     Json::error_handler_t::replace);
}

}  // namespace mayfly
