#include "app/holdings.h"

#include <chrono>

#include "meter/ledger_reader.h"

namespace mayfly {

Result<std::vector<OwnedBlob>> blobs_by_project(Registry& registry, const BlobStore& blobs) {
  const LiveContent live = TRY(registry.live_content({}));
  std::vector<OwnedBlob> owned;
  for (const auto& [project, digests] : live.by_project) {
    for (const Digest& digest : digests) {
      if (const auto blob = TRY(blobs.find(digest))) owned.push_back({project, *blob});
    }
  }
  return owned;
}

Result<QuotaGate::Used> used_this_month(const Ledger& ledger, const Clock& clock) {
  const auto day = std::chrono::floor<std::chrono::days>(clock.wall_now());
  const std::chrono::year_month_day date(day);
  const std::chrono::sys_days first(date.year() / date.month() / std::chrono::day{1});
  return QuotaGate::use_of(TRY(read_usage(
      ledger.folder(), {.from = hour_of(std::chrono::time_point_cast<Duration>(first))})));
}

}  // namespace mayfly
