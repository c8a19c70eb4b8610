#include "events/verdict.h"

#include <algorithm>
#include <array>

#include "core/caller_reason.h"
#include "core/reason.h"
#include "core/store_reason.h"

namespace mayfly {
namespace {

// Nothing was wrong with the event: there was no room for it, or nobody to run it.
constexpr std::array kOfPlatform = {reason::kNodeBusy,        reason::kMemoryPressure,
                                    reason::kDraining,        reason::kQueueFull,
                                    reason::kQuotaExceeded,   reason::kStorageFull,
                                    reason::kRepeatedCrashes, reason::kHopelessDeadline,
                                    reason::kClientGone,      reason::kStoreUnavailable};

// The same bytes will be refused by the same words.
constexpr std::array kForGood = {
    reason::kBadRequest,       reason::kInvalidInput,   reason::kTooLarge,
    reason::kUnsupportedMedia, reason::kUnsupported,    reason::kNotFound,
    reason::kUnknownFunction,  reason::kUnknownVersion, reason::kModelError};

bool among(const auto& reasons, std::string_view reason) {
  return std::ranges::find(reasons, reason) != reasons.end();
}

}  // namespace

bool killed_instance(const Ended& ended) {
  if (ended.reason == reason::kStartFailed) return ended.tier != StartTier::None;
  return ended.reason == reason::kInstanceCrashed || ended.reason == reason::kOutOfMemory;
}

Verdict judge(const Ended& ended, const Tries& tries) {
  if (ended.reason.empty()) return Verdict::Done;
  const bool killed = killed_instance(ended);
  if (ended.reason == reason::kStartFailed && !killed) return Verdict::PutBack;
  if (among(kOfPlatform, ended.reason)) return Verdict::PutBack;
  if (among(kForGood, ended.reason)) return Verdict::Bury;
  if (killed && tries.kills + 1 >= kMostKills) return Verdict::Bury;
  return tries.attempts + 1 < tries.max_attempts ? Verdict::Retry : Verdict::Bury;
}

}  // namespace mayfly
