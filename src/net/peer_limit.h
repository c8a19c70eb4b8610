// How many connections each peer address has. An IPv6 peer counts by its /64, which is what one
// host is given. Loop thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

namespace mayfly {

// Equal for the connections that are counted together.
struct PeerGroup {
  bool ipv6 = false;
  std::uint64_t bits = 0;  // an IPv4 address, or the first half of an IPv6 address
  auto operator<=>(const PeerGroup&) const = default;
};

class PeerLimit {
 public:
  explicit PeerLimit(std::size_t limit) : limit_(limit) {}

  // One of a group's places, given back when it is destroyed. The limit outlives it.
  class Place {
   public:
    Place(Place&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), at_(other.at_) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(owner_, other.owner_);
      std::swap(at_, other.at_);
      return *this;
    }
    ~Place() {
      if (owner_ != nullptr && --at_->second == 0) owner_->taken_.erase(at_);
    }

   private:
    friend class PeerLimit;
    using Entry = std::map<PeerGroup, std::size_t>::iterator;
    Place(PeerLimit& owner, Entry at) : owner_(&owner), at_(at) { ++at->second; }
    PeerLimit* owner_;
    Entry at_;
  };

  // nullopt: the group has as many as it may have.
  std::optional<Place> take(const PeerGroup& group) {
    const auto at = taken_.try_emplace(group, 0).first;
    if (at->second >= limit_) {
      if (at->second == 0) taken_.erase(at);
      return std::nullopt;
    }
    return Place(*this, at);
  }
  std::size_t groups() const { return taken_.size(); }

 private:
  std::size_t limit_;
  std::map<PeerGroup, std::size_t> taken_;
};

}  // namespace mayfly
