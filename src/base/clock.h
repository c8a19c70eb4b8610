// Time is a parameter. Code that waits or measures takes a Clock&; tests pass a FakeClock
// (base/testing/fake_clock.h).
#pragma once

#include <chrono>

namespace mayfly {

using Duration = std::chrono::nanoseconds;
// CLOCK_MONOTONIC: for intervals and deadlines.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;
// CLOCK_REALTIME: for records people read. Never for intervals.
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
  virtual WallTime wall_now() const = 0;
};

class SystemClock final : public Clock {
 public:
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
  WallTime wall_now() const override { return std::chrono::system_clock::now(); }
};

inline std::chrono::microseconds to_us(Duration duration) {
  return std::chrono::duration_cast<std::chrono::microseconds>(duration);
}

}  // namespace mayfly
