#include "identity/token_cache.h"

namespace mayfly {

PrincipalRef TokenCache::find(const Digest& token, WallTime now) {
  const auto found = by_token_.find(token);
  if (found == by_token_.end()) return nullptr;
  const auto entry = found->second;
  if (now >= entry->ends) {
    entries_.erase(entry);
    by_token_.erase(found);
    return nullptr;
  }
  entries_.splice(entries_.begin(), entries_, entry);
  return entry->who;
}

void TokenCache::add(const Digest& token, PrincipalRef who, WallTime ends) {
  if (by_token_.contains(token)) return;
  if (by_token_.size() >= room_) {
    by_token_.erase(entries_.back().token);
    entries_.pop_back();
  }
  entries_.push_front({.token = token, .who = std::move(who), .ends = ends});
  by_token_.emplace(token, entries_.begin());
}

void TokenCache::clear() {
  entries_.clear();
  by_token_.clear();
}

}  // namespace mayfly
