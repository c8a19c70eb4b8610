#include "dispatch/dispatcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "async/event.h"
#include "async/timer.h"
#include "core/reason.h"
#include "dispatch/scheduler.h"
#include "dispatch/version_pool.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// How long killed processes may take to be reaped before their owners are destroyed regardless.
constexpr Duration kReapGrace = 5s;

Error draining() {
  return refuse(reason::kDraining, "the node is shutting down; send the request elsewhere").error();
}

DispatchOptions complete(DispatchOptions options) {
  options.cores = std::max(options.cores, 1U);
  if (options.max_builds == 0) options.max_builds = options.cores;
  return options;
}

}  // namespace

Dispatcher::Dispatcher(Loop& loop, Spawner& spawner, DispatchOptions options)
    : calls_(loop), scheduler_(std::make_unique<Scheduler>(loop, spawner, complete(options))) {}

Dispatcher::~Dispatcher() = default;

// What an accepted request calls is a part of it: its own hold is enough.
Task<Outcome> Dispatcher::predict(Call call) {
  const std::optional<Gate::Hold> hold = calls_.hold();
  if (!hold && !call.caller) {
    co_return Outcome{.reply = std::unexpected(draining()), .retry_after = 1s};
  }
  if (call.version->streams) {
    co_return Outcome{.reply =
                          refuse(reason::kUnsupported,
                                 fmt::format("{} streams its replies: ask POST /functions/NAME, "
                                             "/v2/models/NAME/generate_stream or over gRPC "
                                             "ModelStreamInfer",
                                             call.version->label))};
  }
  Request request(*scheduler_, std::move(call));
  scheduler_->admit(request);
  co_return co_await request;
}

std::unique_ptr<Stream> Dispatcher::open(Call call) {
  std::optional<Gate::Hold> hold = calls_.hold();
  if (!hold) {
    return std::make_unique<Stream>(
        Outcome{.reply = std::unexpected(draining()), .retry_after = 1s});
  }
  if (!call.version->streams) {
    return std::make_unique<Stream>(
        Outcome{.reply = refuse(reason::kUnsupported,
                                fmt::format("{} does not stream: predict is no generator; ask "
                                            "/v2/models/NAME/infer or /functions/NAME",
                                            call.version->label))});
  }
  return std::make_unique<Stream>(*scheduler_, std::move(call), *std::move(hold));
}

void Dispatcher::set_calls(CallHandler handler) { scheduler_->set_calls(std::move(handler)); }
void Dispatcher::answer(const CallOrigin& caller, PlacedCall answer) {
  scheduler_->answer(caller, std::move(answer));
}

std::optional<Outcome> Dispatcher::refusal(VersionKey version) const {
  if (calls_.closed()) {
    return Outcome{.reply = std::unexpected(draining()), .retry_after = 1s};
  }
  return scheduler_->refusal(version);
}

void Dispatcher::serve(std::shared_ptr<const VersionRuntime> current,
                       std::shared_ptr<const FunctionSettings> settings, std::uint64_t sequence) {
  scheduler_->serve(std::move(current), std::move(settings), sequence);
}
Task<Status> Dispatcher::warm(std::shared_ptr<const VersionRuntime> version,
                              std::shared_ptr<const FunctionSettings> settings,
                              std::uint64_t sequence) {
  const std::optional<Gate::Hold> hold = calls_.hold();
  if (!hold) co_return std::unexpected(draining());
  Future<void> warmed(scheduler_->loop());
  scheduler_->warm(std::move(version), std::move(settings), sequence, warmed.promise());
  co_return co_await warmed;
}
bool Dispatcher::has_room_for_guests() const { return scheduler_->has_room_for_guests(); }
bool Dispatcher::resident(FunctionId function) const { return scheduler_->resident(function); }

void Dispatcher::retire(FunctionId function) { scheduler_->retire(function); }
void Dispatcher::retire(VersionKey version) { scheduler_->retire(version); }
void Dispatcher::evict(FunctionId function) { scheduler_->evict(function); }
void Dispatcher::evict(VersionKey version) { scheduler_->evict(version); }
void Dispatcher::renew(std::string_view project, std::string_view secret) {
  scheduler_->renew(project, secret);
}
Bytes Dispatcher::relieve(Bytes wanted) { return scheduler_->relieve(wanted); }
bool Dispatcher::holds_memory() const { return scheduler_->memory_used().count > 0; }
StartTier Dispatcher::next_start(const VersionRuntime& version) const {
  return scheduler_->next_start(version);
}
DispatchStatus Dispatcher::status() const { return scheduler_->status(); }

Task<void> Dispatcher::drain(Duration timeout) {
  Loop& loop = scheduler_->loop();
  {
    Timer cut(loop, [this] { scheduler_->fail_all(draining()); });
    cut.arm_in(timeout);
    co_await calls_.close();
  }
  scheduler_->stop();
  Timer grace(loop, [this] { scheduler_->destroy_all(); });
  grace.arm_in(kReapGrace);
  co_await scheduler_->processes().close();
}

}  // namespace mayfly
