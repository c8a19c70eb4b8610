// Which refusals the audit log keeps. Each costs a write to the disk, and a caller that may do
// nothing can ask for as many as it likes: of each caller some are kept, the others are counted.
// Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "identity/token_bucket.h"

namespace mayfly {

class RefusalLimit {
 public:
  static constexpr double kRate = 1;    // kept of a caller, a second
  static constexpr double kBurst = 20;  // and at once
  static constexpr std::size_t kMostCallers = 1000;

  // Whether a refusal of the caller is to be kept; else it is counted. Callers beyond kMostCallers
  // share one rate.
  bool keep(std::string_view project, std::string_view who, TimePoint now);

  struct Dropped {
    std::string project;
    std::string who;
    std::uint64_t count = 0;
  };
  // What was counted since the last call.
  std::vector<Dropped> collect();
  bool has_dropped() const { return dropped_; }

 private:
  struct Caller {
    TokenBucket rate;
    std::uint64_t dropped = 0;
  };
  std::map<std::pair<std::string, std::string>, Caller> callers_;  // by project and name
  bool dropped_ = false;
};

}  // namespace mayfly
