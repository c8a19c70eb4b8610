// A call inside dispatch, and the queue in which it waits. Internal; loop thread.
#pragma once

#include <algorithm>
#include <coroutine>
#include <cstdint>
#include <map>
#include <optional>

#include "async/cancel.h"
#include "async/event.h"
#include "async/hook.h"
#include "async/timer.h"
#include "base/clock.h"
#include "dispatch/outcome.h"

namespace mayfly {

class Scheduler;
class VersionPool;
struct Worker;

// A call inside dispatch. It lives in the frame of the coroutine that awaits it; destroying it
// drops the call from the queue, or kills the instance that runs it.
class Request : public Hook {
 public:
  Request(Scheduler& scheduler, Call accepted_call);  // `scheduler` outlives me
  ~Request();

  bool await_ready() const noexcept { return outcome.has_value(); }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { resumption.handle = waiter; }
  Outcome await_resume() { return *std::move(outcome); }

  // The rest is the scheduler's. Held: an instance has it.
  enum class State : std::uint8_t { New, Queued, Held, Done };
  Call call;
  State state = State::New;
  VersionPool* pool = nullptr;
  std::uint64_t found_template = 0;  // the build that was ready when it came; 0: none
  Worker* worker = nullptr;
  TimePoint accepted{};
  TimePoint handed{};             // to an instance or its fork
  std::optional<TimePoint> runs;  // since when
  StartTier tier = StartTier::None;
  Timing timing{};
  Bytes peak_memory{};
  std::uint64_t instance = 0;
  std::uint64_t rows = 0;   // that it brings to a batch; 0: it runs alone
  std::uint32_t batch = 1;  // requests that it ran together with, itself included
  bool leads = true;        // it counts as the execution of its batch
  std::uint64_t batch_rows = 0;
  Duration batch_run{};
  // Of a stream: the chunk that nobody has taken yet; when the first one came; whether its instance
  // waits for somebody to take it, and holds no core meanwhile; why the rest is not wanted.
  std::optional<Reply> chunk;
  std::optional<TimePoint> first_chunk;
  bool paused = false;
  std::optional<Error> closing;
  std::optional<TimePoint> called;  // since when its function waits for one that it called
  std::optional<Outcome> outcome;
  Resumption resumption;

 private:
  friend class Scheduler;
  Scheduler& scheduler_;
  Timer deadline_;
  std::optional<CancelCallback> cancelled_;
};

// The most urgent first, and among equals the one that waits longest. It owns nothing. Constant in
// the requests that wait, logarithmic in their different priorities.
class RequestQueue {
 public:
  bool empty() const { return levels_.empty(); }
  Request& front() { return levels_.begin()->second.front(); }
  void push_back(Request& request) { levels_[request.call.priority].push_back(request); }
  void push_front(Request& request) { levels_[request.call.priority].push_front(request); }
  void remove(Request& request) {
    request.unlink();
    const auto level = levels_.find(request.call.priority);
    if (level->second.empty()) levels_.erase(level);
  }
  // In order, until the function returns false. It may not change the queue.
  template <typename Function>
  void each_while(Function function) {
    for (auto& [priority, level] : levels_) {
      if (!level.for_each_while(function)) return;
    }
  }
  // When the one that waits longest was accepted. Not of an empty queue.
  TimePoint oldest_accepted() {
    TimePoint oldest = TimePoint::max();
    for (auto& [priority, level] : levels_) oldest = std::min(oldest, level.front().accepted);
    return oldest;
  }

 private:
  std::map<std::uint32_t, HookList<Request>> levels_;  // by priority; none is empty
};

}  // namespace mayfly
