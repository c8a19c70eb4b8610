// Parsed manifests, the most recently used ones. A manifest never changes, so an entry is never
// stale. Any thread; the lock is held for a look-up, never for parsing.
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "core/manifest.h"
#include "store/digest.h"

namespace mayfly {

class ManifestCache {
 public:
  explicit ManifestCache(std::size_t capacity) : capacity_(capacity) {}  // at least 1

  std::shared_ptr<const Manifest> find(const Digest& digest);  // null: not here
  void insert(const Digest& digest, std::shared_ptr<const Manifest> manifest);
  std::size_t size() const;

 private:
  using Item = std::pair<Digest, std::shared_ptr<const Manifest>>;
  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::list<Item> items_;  // most recently used first
  std::unordered_map<Digest, std::list<Item>::iterator> index_;
};

}  // namespace mayfly
