// The state of one environment template: what Python functions of one project and one set of
// packages share before any of them is loaded. Plain data that environments.cc changes, and the
// rules it goes by.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "async/loop.h"
#include "async/timer.h"
#include "dispatch/value.h"
#include "dispatch/version_runtime.h"
#include "sandbox/spawner.h"

namespace mayfly {

// Of a node.
enum class EnvironmentPolicy : std::uint8_t { Kept, None };

// Absent: taken, and none is wanted before the version that took it is up.
enum class EnvironmentState : std::uint8_t { Absent, Wanted, Preparing, Ready };

struct EnvironmentSlot {
  EnvironmentSlot(Loop& loop, std::string what, std::function<void()> on_due)
      : key(std::move(what)), due(loop, std::move(on_due)) {}
  std::string key;  // VersionRuntime::environment_key
  EnvironmentState state = EnvironmentState::Absent;
  std::unique_ptr<EnvironmentTemplate> process;
  std::uint64_t attempt = 0;  // tells a preparation that was given up from its successor
  // Whose imports it has: the versions started last, the newest first.
  std::vector<std::shared_ptr<const VersionRuntime>> users;
  // Versions that it turned out not to suit, and how long that is remembered.
  std::map<VersionKey, TimePoint> unfit;
  std::shared_ptr<MemoryShare> share;
  Rate rate;  // of templates started
  TimePoint last_used{};
  Duration build_time{};
  Bytes bytes{};    // measured, or expected
  Bytes charged{};  // to the node's memory, and the project's
  std::uint32_t failures = 0;
  TimePoint retry{};  // not prepared before
  Timer due;
};

inline constexpr std::size_t kEnvironmentUsers = 8;

// An environment is in use until this long after a version with it was last started or had
// processes.
inline constexpr Duration kEnvironmentInUse = std::chrono::hours(1);
// Who was just started is answered first: the next one is not prepared sooner.
inline constexpr Duration kAfterStart = std::chrono::milliseconds(250);
// How long a version that an environment template did not suit is started without one.
inline constexpr Duration kUnfitFor = std::chrono::minutes(10);

// It is prepared as a guest: only where a core is free and nobody waits for one, or for memory, or
// builds, and its own memory is free.
struct PrepareView {
  std::uint32_t tokens = 0;
  std::uint32_t tokens_used = 0;
  std::size_t waiting = 0;  // versions, for a core or for memory
  std::uint32_t builds = 0;
  std::uint32_t preparing = 0;
  Bytes needed{};
  Bytes memory{};
  Bytes memory_used{};
  Bytes quota{};  // of its project; 0: none
  Bytes quota_used{};
};
bool may_prepare(const PrepareView& view);

// Two lists of imports as one: the second's names that the first has not, behind it. No longer than
// `most`, cut between names.
inline constexpr std::size_t kMostImports = std::size_t{48} * 1024;
std::string merged_imports(std::string_view first, std::string_view second,
                           std::size_t most = kMostImports);

}  // namespace mayfly
