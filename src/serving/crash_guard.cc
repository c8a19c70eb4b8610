#include "serving/crash_guard.h"

#include <algorithm>

namespace mayfly {

Duration CrashGuard::wait_of(std::string_view caller, const VersionKey& version,
                             TimePoint now) const {
  if (records_.empty()) return {};
  const auto found = records_.find(Key(caller, version));
  if (found == records_.end()) return {};
  return std::max(found->second.until - now, Duration::zero());
}

void CrashGuard::died(std::string_view caller, const VersionKey& version, TimePoint now) {
  make_room(now);
  Record& record = records_[Key(caller, version)];
  if (record.deaths > 0 && now - record.last < kTogether) return;
  if (now - record.last > kMemory) record = {};
  record.last = now;
  if (++record.deaths < kTolerated) return;
  const std::uint32_t doublings = std::min(record.deaths - kTolerated, 10U);
  record.until = now + std::min<Duration>(std::chrono::seconds(1) * (1 << doublings), kLongest);
}

void CrashGuard::answered(std::string_view caller, const VersionKey& version) {
  if (!records_.empty()) records_.erase(Key(caller, version));
}

void CrashGuard::make_room(TimePoint now) {
  if (records_.size() < kCallers) return;
  std::erase_if(records_, [&](const auto& entry) { return now - entry.second.last > kMemory; });
  if (records_.size() < kCallers) return;
  records_.erase(
      std::ranges::min_element(records_, {}, [](const auto& entry) { return entry.second.last; }));
}

}  // namespace mayfly
