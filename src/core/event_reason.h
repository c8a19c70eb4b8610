// The part of the catalogue of reasons (core/reason.h) that is about events.
#pragma once

#include <string_view>

namespace mayfly::reason {

// How an event ended that has no result.
inline constexpr std::string_view kEventDead = "event_dead";
inline constexpr std::string_view kEventExpired = "event_expired";
inline constexpr std::string_view kEventCancelled = "event_cancelled";
inline constexpr std::string_view kResultGone = "result_gone";
// Of an attempt, in records.
inline constexpr std::string_view kAttemptLost = "attempt_lost";

}  // namespace mayfly::reason
