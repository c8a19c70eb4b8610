// Pace: how long a peer may keep us waiting while it sends a body or takes a reply. It starts with
// a full patience; waiting uses it up, and every byte that moves gives some back at `bytes a
// second`, never more than full. So a peer that stops is given up after the patience, and one that
// trickles a byte now and then not much later, while a slow but steady one goes on for as long as
// it likes. Only our waiting counts: what a handler takes to read or to write is not held against
// the peer. A value, without a clock of its own.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace mayfly {

class Pace {
 public:
  Pace(Duration patience, std::uint64_t bytes_per_second)
      : full_(patience), left_(patience), rate_(std::max<std::uint64_t>(bytes_per_second, 1)) {}

  void restart() { left_ = full_; }
  // How long the next wait may be.
  Duration left() const { return left_; }
  void waited(Duration time) { left_ = std::max(left_ - time, Duration::zero()); }
  void moved(std::uint64_t bytes) {
    const Duration missing = full_ - left_;
    if (missing <= Duration::zero()) return;
    // Whole seconds' worth first: bytes × 10⁹ could overflow.
    const std::uint64_t seconds = bytes / rate_;
    if (std::chrono::seconds(std::min<std::uint64_t>(seconds, 1'000'000)) >= missing) {
      left_ = full_;
      return;
    }
    const std::uint64_t rest = (bytes % rate_) * 1'000'000'000 / rate_;
    left_ = std::min(full_, left_ + std::chrono::seconds(seconds) + std::chrono::nanoseconds(rest));
  }

 private:
  Duration full_;
  Duration left_;
  std::uint64_t rate_;
};

}  // namespace mayfly
