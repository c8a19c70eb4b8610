#include "registry/manifest_cache.h"

namespace mayfly {

std::shared_ptr<const Manifest> ManifestCache::find(const Digest& digest) {
  const std::scoped_lock lock(mutex_);
  const auto found = index_.find(digest);
  if (found == index_.end()) return nullptr;
  items_.splice(items_.begin(), items_, found->second);
  return found->second->second;
}

void ManifestCache::insert(const Digest& digest, std::shared_ptr<const Manifest> manifest) {
  const std::scoped_lock lock(mutex_);
  if (index_.contains(digest)) return;
  if (items_.size() == capacity_) {
    index_.erase(items_.back().first);
    items_.pop_back();
  }
  items_.emplace_front(digest, std::move(manifest));
  index_[digest] = items_.begin();
}

std::size_t ManifestCache::size() const {
  const std::scoped_lock lock(mutex_);
  return items_.size();
}

}  // namespace mayfly
