#include "identity/refusal_limit.h"

namespace mayfly {

bool RefusalLimit::keep(std::string_view project, std::string_view who, TimePoint now) {
  std::pair<std::string, std::string> key(project, who);
  if (callers_.size() >= kMostCallers && !callers_.contains(key)) key = {};
  Caller& caller = callers_.try_emplace(key, TokenBucket(kRate, kBurst, now)).first->second;
  if (caller.rate.take(now)) return true;
  ++caller.dropped;
  dropped_ = true;
  return false;
}

// Who stayed within its rate is forgotten: at worst it may have another burst.
std::vector<RefusalLimit::Dropped> RefusalLimit::collect() {
  std::vector<Dropped> dropped;
  for (auto& [key, caller] : callers_) {
    if (caller.dropped > 0)
      dropped.push_back({.project = key.first, .who = key.second, .count = caller.dropped});
  }
  std::erase_if(callers_, [](const auto& entry) { return entry.second.dropped == 0; });
  for (auto& [key, caller] : callers_) caller.dropped = 0;
  dropped_ = false;
  return dropped;
}

}  // namespace mayfly
