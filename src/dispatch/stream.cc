#include "dispatch/stream.h"

#include <coroutine>
#include <utility>

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
