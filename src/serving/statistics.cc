#include "serving/statistics.h"

#include <utility>

namespace mayfly {

VersionStatistics& Statistics::entry(std::string_view function, VersionNumber version) {
  auto versions = places_.find(function);
  if (versions != places_.end()) {
    const auto known = versions->second.find(version.value);
    if (known != versions->second.end()) {
      entries_.splice(entries_.begin(), entries_, known->second);
      return entries_.front();
    }
  }
  if (entries_.size() >= kMost) {
    const VersionStatistics& oldest = entries_.back();
    const auto of_oldest = places_.find(oldest.function);
    of_oldest->second.erase(oldest.version.value);
    if (of_oldest->second.empty()) places_.erase(of_oldest);
    entries_.pop_back();
  }
  entries_.emplace_front();
  VersionStatistics& added = entries_.front();
  added.function = std::string(function);
  added.version = version;
  places_[added.function].emplace(version.value, entries_.begin());
  return added;
}

void Statistics::add(std::string_view function, VersionNumber version, WallTime accepted,
                     std::uint64_t rows, Ended ended, const InvocationTimes& times) {
  VersionStatistics& of = entry(function, version);
  of.last = accepted;
  if (ended == Ended::Badly) {
    of.fail.add(times.whole);
    return;
  }
  of.rows += rows;
  of.executions += times.ran == InvocationTimes::Ran::Itself ? 1 : 0;
  of.success.add(times.whole);
  if (times.missed_cache) of.cache_miss.add(times.whole);
  if (times.ran == InvocationTimes::Ran::FromCache) {
    of.cache_hit.add(times.whole);
    return;
  }
  of.queue.add(times.timing.queue + times.timing.start);
  of.decode.add(times.decode);
  of.run.add(times.timing.run);
  of.encode.add(times.encode);
  if (times.ran == InvocationTimes::Ran::Beside) return;  // in the run of who led its batch
  const std::uint64_t together = times.batch_rows > 0 ? times.batch_rows : rows;
  auto of_rows = of.by_rows.find(together);
  if (of_rows == of.by_rows.end()) {
    if (of.by_rows.size() >= kMostRows) return;
    of_rows = of.by_rows.emplace(together, RowStatistics{}).first;
  }
  of_rows->second.decode.add(times.decode);
  of_rows->second.run.add(times.batch_rows > 0 ? times.batch_run : times.timing.run);
  of_rows->second.encode.add(times.encode);
}

const VersionStatistics* Statistics::find(std::string_view function, VersionNumber version) const {
  const auto versions = places_.find(function);
  if (versions == places_.end()) return nullptr;
  const auto known = versions->second.find(version.value);
  return known == versions->second.end() ? nullptr : &*known->second;
}

void Statistics::forget(std::string_view function) {
  const auto versions = places_.find(function);
  if (versions == places_.end()) return;
  for (const auto& [version, place] : versions->second) entries_.erase(place);
  places_.erase(versions);
}

}  // namespace mayfly
