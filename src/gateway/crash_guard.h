// Callers whose requests keep killing the instances of a function are held off, each by itself:
// every death costs a fork, and with batching a second run for all that ran beside. Others are not
// concerned. Pure bookkeeping, bounded; loop thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "dispatch/version_runtime.h"

namespace mayfly {

class CrashGuard {
 public:
  // From this many deaths on within kMemory of each other a caller waits: a second, and twice as
  // long with each further one, up to kLongest.
  static constexpr std::uint32_t kTolerated = 3;
  static constexpr Duration kMemory = std::chrono::minutes(5);
  static constexpr Duration kLongest = std::chrono::minutes(1);
  static constexpr std::size_t kCallers = 10'000;  // remembered; beyond, the stalest is forgotten

  // How long the caller has still to wait; 0: it may ask.
  Duration wait_of(std::string_view caller, FunctionId function, TimePoint now) const;
  // A request of the caller killed an instance.
  void died(std::string_view caller, FunctionId function, TimePoint now);

  std::size_t size() const { return records_.size(); }

 private:
  struct Record {
    std::uint32_t deaths = 0;
    TimePoint last{};
    TimePoint until{};
  };
  using Key = std::pair<std::string, std::uint64_t>;
  void make_room(TimePoint now);

  std::map<Key, Record, std::less<>> records_;
};

}  // namespace mayfly
