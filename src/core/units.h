// Durations, sizes and times as people write them: "250ms", "30s", "10m", "1h"; "512MiB", "2GiB",
// "64KB"; "2026-01-31T08:00:00.250Z" (RFC 3339, always UTC).
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"

namespace mayfly {

Result<Duration> parse_duration(std::string_view text);
Result<Bytes> parse_bytes(std::string_view text);
std::string to_string(Duration duration);  // the shortest exact form that parses back
std::string to_string(Bytes bytes);

std::string format_time(WallTime time);  // to the millisecond
Result<WallTime> parse_time(std::string_view text);

}  // namespace mayfly
