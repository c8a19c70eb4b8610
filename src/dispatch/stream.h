// A prediction that is answered in chunks: a function that is a generator.
//
//   std::unique_ptr<Stream> stream = dispatcher.open(std::move(call));
//   while (std::optional<Reply> chunk = co_await stream->next()) … send it …
//   stream->outcome()   says how it ended
//
// Whoever takes chunks sets the pace: one is made while the last one is sent, and then the function
// waits, without a core, until that one is taken. The version's timeout holds for all of it. When
// the call is cancelled the function is told, so that what it has to tidy up it tidies up; what
// does not end within kCloseGrace is killed. Destroying a stream kills it at once. Loop thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "async/gate.h"
#include "async/task.h"
#include "base/clock.h"
#include "dispatch/outcome.h"

namespace mayfly {

class Request;
class Scheduler;

inline constexpr Duration kCloseGrace = std::chrono::seconds(1);

class Stream {
 public:
  Stream(Scheduler& scheduler, Call call, Gate::Hold hold);  // `scheduler` outlives me
  explicit Stream(Outcome refused);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // Waits. nullopt: there are no more.
  Task<std::optional<Reply>> next();
  // The rest is not wanted, because of `why`; returns when the function has ended.
  Task<void> close(Error why);
  // When next() has said that there are no more, or after close(). `reply` has no outputs.
  Outcome& outcome() { return *outcome_; }
  // How it began, once there is a chunk.
  StartTier tier() const;
  Timing timing() const;

 private:
  void settle();

  std::optional<Gate::Hold> hold_;
  Scheduler* scheduler_ = nullptr;
  std::unique_ptr<Request> request_;
  std::optional<Outcome> outcome_;
};

}  // namespace mayfly
