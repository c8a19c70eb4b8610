// A node for tests: a dispatcher over a FakeSpawner in virtual time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "async/cancel.h"
#include "async/loop.h"
#include "async/task.h"
#include "base/testing/fake_clock.h"
#include "dispatch/dispatcher.h"
#include "sandbox/testing/fake_spawner.h"

namespace mayfly {

// A call and, later, its outcome.
struct Pending {
  CancelSource client;
  std::optional<Outcome> outcome;
  TimePoint ended;

  bool done() const { return outcome.has_value(); }
  bool ok() const { return done() && outcome->reply.has_value(); }
  std::string_view reason() const {
    return done() && !outcome->reply ? outcome->reply.error().reason : std::string_view();
  }
};

class TestNode {
 public:
  explicit TestNode(DispatchOptions options = {.cores = 2, .memory = mib(1000)})
      : spawner(loop), dispatcher(loop, spawner, options) {}
  // Drains; every process must be gone then.
  ~TestNode() {
    if (!drained) drain({});
    while (!drained) run_for(std::chrono::seconds(1), std::chrono::milliseconds(100));
    loop.poll();
  }

  // Versions of one function share `settings`; labels are "f<function>@<version>".
  VersionRuntime runtime(std::uint64_t function, std::uint32_t version = 1) const {
    return {.key = {.function = {function}, .version = version},
            .label = "f" + std::to_string(function) + "@" + std::to_string(version),
            .signature = std::make_shared<const Signature>(),
            .artifact = [] { return compiled(); }};
  }
  static std::shared_ptr<const VersionRuntime> share(VersionRuntime runtime) {
    return std::make_shared<const VersionRuntime>(std::move(runtime));
  }

  std::shared_ptr<Pending> call(std::shared_ptr<const VersionRuntime> version,
                                Duration timeout = std::chrono::seconds(30),
                                std::uint64_t output_bytes = 0) {
    RequestMemory request = *RequestMemory::allocate(*RequestLayout::plan({}, {}), output_bytes);
    return ask(call_of(std::move(version), std::move(request), timeout));
  }
  Call call_of(std::shared_ptr<const VersionRuntime> version, RequestMemory request,
               Duration timeout = std::chrono::seconds(30)) {
    return {.version = std::move(version),
            .settings = std::make_shared<const FunctionSettings>(settings),
            .settings_sequence = settings_sequence,
            .request = std::move(request),
            .deadline = loop.now() + timeout};
  }
  std::shared_ptr<Pending> ask(Call call) {
    auto pending = std::make_shared<Pending>();
    call.cancel = pending->client.token();
    loop.spawn(await_outcome(dispatcher, std::move(call), pending, loop));
    return pending;
  }
  // Lets what is due now happen.
  std::shared_ptr<Pending> finished(std::shared_ptr<Pending> pending) {
    loop.poll();
    return pending;
  }
  std::shared_ptr<Pending> predict(const std::shared_ptr<const VersionRuntime>& version) {
    return finished(call(version));
  }

  void advance(Duration by) {
    clock.advance(by);
    loop.poll();
  }
  void run_for(Duration time, Duration step = std::chrono::milliseconds(1)) {
    loop.poll();
    for (Duration gone{}; gone < time; gone += step) advance(step);
  }
  void drain(Duration timeout) {
    loop.spawn(await_drain(dispatcher, timeout, drained));
    loop.poll();
  }

  // Of a version that has work or processes; otherwise nothing.
  std::optional<VersionStatus> version(const std::string& label) const {
    for (VersionStatus& status : dispatcher.status().versions) {
      if (status.label == label) return std::move(status);
    }
    return std::nullopt;
  }
  std::uint64_t decided(Action action, Why why) const {
    return dispatcher.status()
        .node.decisions.at(static_cast<std::size_t>(action))
        .at(static_cast<std::size_t>(why));
  }

  FakeClock clock;
  Loop loop{clock};
  FakeSpawner spawner;
  Dispatcher dispatcher;
  FunctionSettings settings;  // that calls bring
  std::uint64_t settings_sequence = 0;
  bool drained = false;

 private:
  static Task<Result<Path>> compiled() { co_return Path("/compiled"); }
  static Task<void> await_outcome(Dispatcher& dispatcher, Call call,
                                  std::shared_ptr<Pending> pending, Loop& loop) {
    pending->outcome = co_await dispatcher.predict(std::move(call));
    pending->ended = loop.now();
  }
  static Task<void> await_drain(Dispatcher& dispatcher, Duration timeout, bool& drained) {
    co_await dispatcher.drain(timeout);
    drained = true;
  }
};

}  // namespace mayfly
