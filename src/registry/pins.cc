#include "registry/pins.h"

#include <algorithm>

#include "base/check.h"
#include "core/reason.h"

namespace mayfly {

Pin& Pin::operator=(Pin&& other) noexcept {
  if (this != &other) {
    release();
    pins_ = std::exchange(other.pins_, nullptr);
    digests_ = std::move(other.digests_);
  }
  return *this;
}

void Pin::add(const Digest& digest) {
  CHECK(pins_ != nullptr);
  pins_->add(digest);
  digests_.push_back(digest);
}

void Pin::release() {
  if (pins_ != nullptr) std::exchange(pins_, nullptr)->drop(digests_);
}

Sweep::~Sweep() {
  if (pins_ == nullptr) return;
  const std::scoped_lock lock(pins_->mutex_);
  pins_->sweeping_.reset();
}

bool Sweep::is_pinned(const Digest& digest) const {
  const std::scoped_lock lock(pins_->mutex_);
  return pins_->sweeping_->contains(digest);
}

Result<bool> Sweep::remove_unless_pinned(const Digest& digest,
                                         const std::function<Status()>& remove) {
  const std::scoped_lock lock(pins_->mutex_);
  if (pins_->sweeping_->contains(digest)) return false;
  TRY(remove());
  return true;
}

SweepPause::~SweepPause() {
  if (pins_ == nullptr) return;
  const std::scoped_lock lock(pins_->mutex_);
  --pins_->pauses_;
}

Pin Pins::hold(const std::vector<Digest>& digests) {
  Pin pin(*this);
  for (const Digest& digest : digests) pin.add(digest);
  return pin;
}

void Pins::add(const Digest& digest) {
  const std::scoped_lock lock(mutex_);
  ++held_[digest];
  if (sweeping_) sweeping_->insert(digest);
}

void Pins::drop(const std::vector<Digest>& digests) {
  const std::scoped_lock lock(mutex_);
  for (const Digest& digest : digests) {
    const auto found = held_.find(digest);
    CHECK(found != held_.end());
    if (--found->second == 0) held_.erase(found);
  }
}

void Pins::lease(const Digest& digest, Duration duration) {
  const std::scoped_lock lock(mutex_);
  TimePoint& until = leases_[digest];
  until = std::max(until, clock_.now() + duration);
  if (sweeping_) sweeping_->insert(digest);
}

bool Pins::is_pinned(const Digest& digest) {
  const std::scoped_lock lock(mutex_);
  const auto lease = leases_.find(digest);
  return held_.contains(digest) || (lease != leases_.end() && lease->second > clock_.now());
}

Result<Sweep> Pins::begin_sweep() {
  const std::scoped_lock lock(mutex_);
  if (sweeping_) return refuse(reason::kConflict, "a garbage collection is under way");
  if (pauses_ > 0) return refuse(reason::kConflict, "a backup is under way");
  std::erase_if(leases_, [&](const auto& lease) { return lease.second <= clock_.now(); });
  sweeping_.emplace();
  for (const auto& [digest, count] : held_) sweeping_->insert(digest);
  for (const auto& [digest, until] : leases_) sweeping_->insert(digest);
  return Sweep(*this);
}

Result<SweepPause> Pins::pause_sweeps() {
  const std::scoped_lock lock(mutex_);
  if (sweeping_) return refuse(reason::kConflict, "a garbage collection is under way");
  ++pauses_;
  return SweepPause(*this);
}

}  // namespace mayfly
