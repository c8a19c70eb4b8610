// A rate as a bucket of tokens: so many a second, and as many at once as it holds. Pure.
#pragma once

#include <algorithm>
#include <chrono>

#include "base/clock.h"

namespace mayfly {

class TokenBucket {
 public:
  // Full at first.
  TokenBucket(double rate, double size, TimePoint now)
      : rate_(rate), size_(size), tokens_(size), filled_(now) {}

  // Whether there was one to take.
  bool take(TimePoint now) {
    const double seconds = std::chrono::duration<double>(now - filled_).count();
    tokens_ = std::min(size_, tokens_ + std::max(seconds, 0.0) * rate_);
    filled_ = now;
    if (tokens_ < 1) return false;
    tokens_ -= 1;
    return true;
  }

 private:
  double rate_;
  double size_;
  double tokens_;
  TimePoint filled_;
};

}  // namespace mayfly
