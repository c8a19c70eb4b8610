// co_await sleep_until(loop, deadline): waits without blocking the loop. With a token the wait ends
// early with Code::Cancelled when the token is.
#pragma once

#include <coroutine>
#include <optional>

#include "async/cancel.h"
#include "async/loop.h"
#include "async/timer.h"
#include "base/result.h"

namespace mayfly {

class Sleep {
 public:
  Sleep(Loop& loop, TimePoint deadline, CancelToken token = {})
      : loop_(loop), deadline_(deadline), token_(token), timer_(loop, [this] { wake(); }) {}

  bool await_ready() const noexcept { return token_.cancelled(); }
  void await_suspend(std::coroutine_handle<> waiter) {
    waiter_.handle = waiter;
    timer_.arm(deadline_);
    cancelled_.emplace(token_, [this] { wake(); });
  }
  Status await_resume() const {
    if (token_.cancelled()) return fail(Code::Cancelled, "the wait was cancelled");
    return {};
  }

 private:
  void wake() {
    timer_.cancel();
    loop_.make_ready(waiter_);
  }

  Loop& loop_;
  TimePoint deadline_;
  CancelToken token_;
  Timer timer_;
  Resumption waiter_;
  std::optional<CancelCallback> cancelled_;
};

inline Sleep sleep_until(Loop& loop, TimePoint deadline, CancelToken token = {}) {
  return {loop, deadline, token};
}
inline Sleep sleep_for(Loop& loop, Duration duration, CancelToken token = {}) {
  return {loop, loop.now() + duration, token};
}

}  // namespace mayfly
