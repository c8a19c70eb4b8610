// Callers whose requests keep killing the instances of a version are held off, each by itself:
// every death costs a fork, and with batching a second run for all that ran beside. Others, and
// other versions, are not concerned. Pure bookkeeping, bounded; loop thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "dispatch/version_runtime.h"

namespace mayfly {

class CrashGuard {
 public:
  // From this many deaths in a row on a caller waits: a second, and twice as long with each further
  // one, up to kLongest. A request that is answered ends the row; what dies within kTogether of
  // another death died with it.
  static constexpr std::uint32_t kTolerated = 3;
  static constexpr Duration kTogether = std::chrono::milliseconds(100);
  static constexpr Duration kMemory = std::chrono::minutes(5);
  static constexpr Duration kLongest = std::chrono::minutes(1);
  static constexpr std::size_t kCallers = 10'000;  // remembered; beyond, the stalest is forgotten

  // How long the caller has still to wait; 0: it may ask.
  Duration wait_of(std::string_view caller, const VersionKey& version, TimePoint now) const;
  // A request of the caller killed an instance.
  void died(std::string_view caller, const VersionKey& version, TimePoint now);
  void answered(std::string_view caller, const VersionKey& version);

  std::size_t size() const { return records_.size(); }

 private:
  struct Record {
    std::uint32_t deaths = 0;
    TimePoint last{};
    TimePoint until{};
  };
  using Key = std::pair<std::string, VersionKey>;
  void make_room(TimePoint now);

  std::map<Key, Record> records_;
};

}  // namespace mayfly
