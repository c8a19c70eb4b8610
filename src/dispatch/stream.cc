#include "dispatch/stream.h"

#include <coroutine>
#include <utility>

#include "base/check.h"
#include "dispatch/request.h"
#include "dispatch/scheduler.h"

namespace mayfly {
namespace {

// Waits until there is a chunk or the end.
struct Arrival {
  Request& request;
  bool or_chunk;
  bool await_ready() const noexcept {
    return (or_chunk && request.chunk) || request.outcome.has_value();
  }
  void await_suspend(std::coroutine_handle<> waiter) const noexcept {
    request.resumption.handle = waiter;
  }
  void await_resume() const noexcept { request.resumption.handle = nullptr; }
};

}  // namespace

// ---- In the scheduler ---------------------------------------------------------------------------

// Who waits for it takes it in this turn. Otherwise the function waits too, and the core is
// others'.
void Scheduler::chunk_arrived(Worker& worker, Reply chunk) {
  tick();
  if (worker.state != WorkerState::Running) return;
  CHECK(worker.requests.size() == 1);
  Request& request = *worker.requests.front();
  if (request.closing) return;
  if (!request.first_chunk) request.first_chunk = now_;
  request.chunk = std::move(chunk);
  if (request.resumption.handle) return wake(request);
  request.paused = true;
  release_tokens(worker);
  contend_all(worker.pool.function);
  run();
}

Reply Scheduler::take_chunk(Request& request) {
  Reply chunk = *std::exchange(request.chunk, std::nullopt);
  if (request.state != Request::State::Held || request.closing) return chunk;
  tick();
  // It has its instance, and its memory: it does not queue for the core again.
  if (std::exchange(request.paused, false)) take_tokens(*request.worker);
  request.worker->instance->go_on();
  return chunk;
}

// ---- For whoever takes the chunks ---------------------------------------------------------------

Stream::Stream(Scheduler& scheduler, Call call, Gate::Hold hold)
    : hold_(std::move(hold)), scheduler_(&scheduler) {
  call.request.set_streams();
  request_ = std::make_unique<Request>(scheduler, std::move(call));
  scheduler.admit(*request_);
}

Stream::Stream(Outcome refused) : outcome_(std::move(refused)) {}

Stream::~Stream() = default;

Task<std::optional<Reply>> Stream::next() {
  if (outcome_) co_return std::nullopt;
  const Arrival arrival{.request = *request_, .or_chunk = true};
  // A chunk that woke it may have been dropped since.
  while (!arrival.await_ready()) co_await arrival;
  if (request_->chunk) co_return scheduler_->take_chunk(*request_);
  settle();
  co_return std::nullopt;
}

Task<void> Stream::close(Error why) {
  if (outcome_) co_return;
  scheduler_->close(*request_, std::move(why));
  const Arrival arrival{.request = *request_, .or_chunk = false};
  // Chunks wake it too.
  while (!request_->outcome) co_await arrival;
  settle();
}

void Stream::settle() { outcome_ = request_->await_resume(); }

StartTier Stream::tier() const { return outcome_ ? outcome_->tier : request_->tier; }
Timing Stream::timing() const { return outcome_ ? outcome_->timing : request_->timing; }

}  // namespace mayfly
