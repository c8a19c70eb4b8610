// Tokens that were verified, by their digest, until they end: a signature is checked once. Bounded;
// the one that was not asked for the longest goes first. One thread's.
#pragma once

#include <list>
#include <map>
#include <utility>

#include "base/clock.h"
#include "identity/principal.h"
#include "store/digest.h"

namespace mayfly {

class TokenCache {
 public:
  explicit TokenCache(std::size_t room) : room_(room) {}

  // Null: not there, or ended.
  PrincipalRef find(const Digest& token, WallTime now);
  void add(const Digest& token, PrincipalRef who, WallTime ends);
  void clear();
  std::size_t size() const { return by_token_.size(); }

 private:
  struct Entry {
    Digest token;
    PrincipalRef who;
    WallTime ends;
  };
  std::size_t room_;
  std::list<Entry> entries_;  // asked for last first
  std::map<Digest, std::list<Entry>::iterator> by_token_;
};

}  // namespace mayfly
