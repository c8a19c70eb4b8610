// A function that calls another one, as dispatch sees it: the instance that calls gives its core
// back and waits; what it called is a request of its own, which whoever answers calls (serving/)
// puts before the dispatcher; the answer goes back with Dispatcher::answer().
//
// A caller's end, however it comes, cancels what it called. A callee that could only start where
// requests end that themselves wait for it is refused with call_deadlock (never_ends() of
// policy.h); others queue. Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "async/cancel.h"
#include "base/clock.h"
#include "sandbox/spawner.h"

namespace mayfly {

class Request;

// Calls that stand above each other: a request that nobody's function made is at depth 0.
inline constexpr std::uint32_t kMaxCallDepth = 8;

// A request whose function may call others, as its callees know it. Made with the request's Call;
// whoever answers calls adds what he needs. Outlives the request as long as a callee does.
struct CallOrigin {
  CallOrigin() = default;
  virtual ~CallOrigin() = default;
  CallOrigin(const CallOrigin&) = delete;
  CallOrigin& operator=(const CallOrigin&) = delete;

  std::uint32_t depth = 0;
  CancelSource callees;  // cancelled with the request's end: their callers are gone
  // The scheduler's: the request while it has no outcome, and what it waits for in a queue or an
  // instance.
  Request* request = nullptr;
  Request* callee = nullptr;
};

struct AskedCall {
  std::shared_ptr<CallOrigin> by;
  PlacedCall call;
  TimePoint deadline;  // of the request that makes it
  std::uint32_t priority;
};
using CallHandler = std::function<void(AskedCall)>;

}  // namespace mayfly
