// Timer: one callback at one moment, restartable. Arming it again for a later time and cancelling
// it are O(1) and make no system call, because the heap entry is left where it is and corrected
// when it comes due: idle and stall timeouts are re-armed on every request and almost never fire.
#pragma once

#include <cstddef>
#include <functional>

#include "async/loop.h"
#include "base/clock.h"

namespace mayfly {

class Timer {
 public:
  // `loop` outlives the timer. The callback may re-arm or destroy the timer.
  Timer(Loop& loop, std::move_only_function<void()> callback);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Fires once, not before `deadline`; replaces an earlier deadline.
  void arm(TimePoint deadline);
  void arm_in(Duration delay) { arm(loop_.now() + delay); }
  void cancel() { deadline_ = kNever; }
  bool armed() const { return deadline_ != kNever; }
  TimePoint deadline() const { return deadline_; }

 private:
  friend class Loop;
  static constexpr TimePoint kNever = TimePoint::max();
  static constexpr std::size_t kNotQueued = static_cast<std::size_t>(-1);

  void fire();

  Loop& loop_;
  std::move_only_function<void()> callback_;
  TimePoint deadline_ = kNever;
  TimePoint key_ = kNever;          // where the heap has it: at or before deadline_
  std::size_t index_ = kNotQueued;  // in the heap
  bool* destroyed_ = nullptr;       // set while the callback runs
};

}  // namespace mayfly
