// Replies to requests that came before, for versions that ask for it (`cache = true`). Addressed by
// content: version, inputs and outputs wanted, as SHA-256; bounded in bytes, the least recently
// used goes first. In memory only. Loop thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>

#include "base/bytes.h"
#include "dispatch/version_runtime.h"
#include "sandbox/channel.h"
#include "sandbox/spawner.h"
#include "store/digest.h"

namespace mayfly {

class ResponseCache {
 public:
  // Hashing and copying take the loop's time: what is larger is neither looked up nor kept.
  static constexpr Bytes kLargest = kib(64);

  explicit ResponseCache(Bytes limit) : limit_(limit) {}

  // nullopt: the request is larger than kLargest, or nothing may be kept at all.
  std::optional<Digest> key_of(const VersionKey& version, RequestMemory& request) const;
  std::optional<Reply> find(const Digest& key);
  void put(const Digest& key, FunctionId function, const Reply& reply);
  void forget(FunctionId function);  // it was deleted

  struct Counts {
    std::uint64_t hits = 0;
    std::uint64_t misses = 0;
    std::uint64_t evicted = 0;  // for want of room
    std::uint64_t entries = 0;
    Bytes bytes{};
  };
  const Counts& counts() const { return counts_; }

 private:
  struct Entry {
    Digest key;
    FunctionId function;
    Reply reply;
    std::uint64_t bytes = 0;
  };
  using Entries = std::list<Entry>;
  void drop(Entries::iterator entry);

  Bytes limit_;
  Entries entries_;  // the most recently used first
  std::unordered_map<Digest, Entries::iterator> index_;
  Counts counts_;
};

}  // namespace mayfly
