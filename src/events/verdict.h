// What becomes of an event after an attempt. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/invocation.h"

namespace mayfly {

enum class Verdict : std::uint8_t {
  Done,
  Retry,    // the attempt counts; another may do better
  Bury,     // no other will: to the dead letters
  PutBack,  // the platform's fault: it does not count, and nobody is billed
};

struct Tries {
  std::uint32_t attempts = 0;  // that counted before this one
  std::uint32_t kills = 0;     // of them, that killed the instance
  std::uint32_t max_attempts = 1;
};

// An event that has killed as many instances is not given a third.
inline constexpr std::uint32_t kMostKills = 2;

struct Ended {
  std::string_view reason;           // empty: answered
  StartTier tier = StartTier::None;  // None: no instance had it
};

Verdict judge(const Ended& ended, const Tries& tries);
// Whether the instance that had it died of it. A fresh one that dies before it has said that it
// runs, with the request in its hands, is called start_failed.
bool killed_instance(const Ended& ended);

}  // namespace mayfly
