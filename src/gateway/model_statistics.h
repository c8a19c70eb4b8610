// Which statistics a caller asks for, and how they look as JSON.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dispatch/status.h"
#include "identity/principal.h"
#include "serving/catalog.h"
#include "serving/statistics.h"

namespace mayfly {

// Without a name: every version that was asked since the node started. With one: its versions that
// were asked, or the one that is named, and where none was asked the champion's zeros.
// unknown_function, unknown_version.
struct StatisticsSeen {
  const Statistics& statistics;
  const Catalog& catalog;
  const Principal& caller;  // of all versions, those of functions that it may see
};
Result<std::vector<VersionStatistics>> choose_statistics(const StatisticsSeen& seen,
                                                         std::string_view name,
                                                         std::string_view version);

// Of the processes of the version.
Bytes memory_of(const DispatchStatus& status, const VersionStatistics& version);

std::uint64_t milliseconds_since_epoch(WallTime time);

// {"model_stats":[…]}
std::string statistics_json(std::span<const VersionStatistics> chosen,
                            const DispatchStatus& status);

}  // namespace mayfly
