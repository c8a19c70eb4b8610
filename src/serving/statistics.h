// What the protocol's statistics calls tell: how often each version was asked since the node
// started, and where the time went. Fed by Invoker with every invocation, so that the counts equal
// the requests. Bounded: beyond kMost versions the one that was asked longest ago is dropped. Loop
// thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"
#include "core/invocation.h"
#include "core/names.h"

namespace mayfly {

struct TimesTaken {
  std::uint64_t count = 0;
  Duration total{};
  void add(Duration duration) {
    ++count;
    total += duration;
  }
};

// Where the time of one invocation went, beside what an instance did.
struct InvocationTimes {
  Duration whole{};   // until its answer was ready
  Duration decode{};  // of the request
  Duration encode{};  // of the reply
  Timing timing{};
  enum class Ran : std::uint8_t {
    Itself,     // an instance ran it, alone or as the first of its batch
    Beside,     // in the batch of another
    FromCache,  // nothing ran
  };
  Ran ran = Ran::Itself;
  std::uint64_t batch_rows = 0;  // of the batch that it led; 0: it ran alone
  Duration batch_run{};
  bool missed_cache = false;  // it was looked for there
};

struct RowStatistics {  // of the runs of so many rows
  TimesTaken decode;
  TimesTaken run;
  TimesTaken encode;
};

struct VersionStatistics {
  std::string function;
  VersionNumber version;
  WallTime last{};               // the last invocation began
  std::uint64_t rows = 0;        // that were answered
  std::uint64_t executions = 0;  // runs of the model for them
  TimesTaken success;
  TimesTaken fail;
  TimesTaken queue;  // until an instance had it, its start included
  TimesTaken decode;
  TimesTaken run;
  TimesTaken encode;
  TimesTaken cache_hit;
  TimesTaken cache_miss;
  std::map<std::uint64_t, RowStatistics> by_rows;  // at most kMostRows, the first ones seen
};

class Statistics {
 public:
  static constexpr std::size_t kMost = 10'000;
  static constexpr std::size_t kMostRows = 32;

  // One finished invocation. `rows` is what it asked for; `succeeded` whether it got them.
  enum class Ended : std::uint8_t { Well, Badly };
  void add(std::string_view function, VersionNumber version, WallTime accepted, std::uint64_t rows,
           Ended ended, const InvocationTimes& times);

  // nullptr: not asked since the node started.
  const VersionStatistics* find(std::string_view function, VersionNumber version) const;
  // The last asked first.
  const std::list<VersionStatistics>& all() const { return entries_; }

  void forget(std::string_view function);  // it was deleted

 private:
  using Place = std::list<VersionStatistics>::iterator;
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  VersionStatistics& entry(std::string_view function, VersionNumber version);

  std::list<VersionStatistics> entries_;  // the last asked first
  std::unordered_map<std::string, std::map<std::uint32_t, Place>, Hash, std::equal_to<>> places_;
};

}  // namespace mayfly
