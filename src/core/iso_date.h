// Dates as tables have them: ISO 8601's calendar dates, with or without a time of day and a zone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mayfly {

// Milliseconds since 1970, UTC. "2026-01-31", "2026-01-31T08:00", "2026-01-31 08:00:00.25+02:00",
// "20260131T080000Z", …; without a zone it is UTC; what is finer than a millisecond is cut off.
// Years 0001 to 9999. nullopt: no such date.
std::optional<std::int64_t> parse_iso_date(std::string_view text);

// "2026-01-31", or "2026-01-31T08:00:00.250Z" where it is not midnight.
std::string format_iso_date(std::int64_t milliseconds);

}  // namespace mayfly
