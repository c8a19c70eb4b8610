// Dispatcher: from an accepted call to its outcome. It keeps a queue, a template and instances per
// version, starts them when calls come and ends them when none do, as policy.h says.
//
//   Call call{.version = …, .settings = …, .request = std::move(memory), .deadline = …, .cancel =
//   …}; Outcome outcome = co_await dispatcher.predict(std::move(call));
//
// Loop thread only. predict() always ends: with a reply, or with an error whose reason says why,
// at the deadline at the latest. What is refused is refused at once: a full queue, a queue that
// cannot be done before the deadline, a node that drains, a version that cannot be started at the
// moment. A cancelled call, an overrun deadline and destroying the awaiting task drop a queued call
// and kill the instance of a running one.
//
// A version that streams is asked with open(), which ends as predict() does.
//
// A hot call makes no system call of its own but the doorbell and one reading of the CPU clock, and
// allocates its coroutine frame. Functions that have neither work nor processes cost nothing here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "async/gate.h"
#include "async/loop.h"
#include "async/task.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "core/settings.h"
#include "dispatch/calls.h"
#include "dispatch/outcome.h"
#include "dispatch/status.h"
#include "dispatch/stream.h"
#include "dispatch/version_runtime.h"
#include "sandbox/spawner.h"

namespace mayfly {

class Scheduler;

struct DispatchOptions {
  std::uint32_t cores = 1;       // CPU tokens
  Bytes memory = gib(1);         // for private bytes of templates and instances
  std::uint32_t max_builds = 0;  // templates built at the same time; 0: as many as cores
  Duration patience = std::chrono::milliseconds(500);  // see policy.h
};

class Dispatcher {
 public:
  // `loop` and `spawner` outlive me.
  Dispatcher(Loop& loop, Spawner& spawner, DispatchOptions options);
  // After drain(), or when nothing awaits predict(); kills what still runs.
  ~Dispatcher();

  Task<Outcome> predict(Call call);
  // unsupported: the version does not stream.
  std::unique_ptr<Stream> open(Call call);
  // Who answers what functions call; without one they are told that nobody does. Called on the loop
  // thread, before it returns to the loop.
  void set_calls(CallHandler handler);
  // The answer for the call that the request waits for, if it still does.
  void answer(const CallOrigin& caller, PlacedCall answer);
  // What predict() would answer at once to any call of the version, as things stand.
  std::optional<Outcome> refusal(VersionKey version) const;

  // Names the function's current version and its settings, which apply at once: instances and
  // templates to be kept are started, limits that sank end idle instances at the next occasion.
  // Call it at start-up, after a deploy and after a change of settings, with the state of the
  // registry that they are of: what is older than the last call knew is ignored. Costs nothing to
  // remember unless something is to be kept warm or is running.
  void serve(std::shared_ptr<const VersionRuntime> current,
             std::shared_ptr<const FunctionSettings> settings, std::uint64_t sequence = 0);
  // Builds the version's template unless it has one, for a switch of traffic to it that is about to
  // come; it then idles out like any other. Ends when it is ready. start_failed, memory_pressure
  // (other versions have the memory: a request could still take it from what idles), draining.
  Task<Status> warm(std::shared_ptr<const VersionRuntime> version,
                    std::shared_ptr<const FunctionSettings> settings, std::uint64_t sequence);
  // Whether a core is free and no request waits: there is room for guests.
  bool has_room_for_guests() const;
  // Whether anything of the function runs, or is about to.
  bool resident(FunctionId function) const;
  // A deleted function or version drains: what was accepted is served, then its processes end.
  void retire(FunctionId function);
  void retire(VersionKey version);
  // To zero: idle processes end now, busy ones after their request, and what requests need that
  // wait already as soon as none waits.
  void evict(FunctionId function);
  void evict(VersionKey version);
  // A secret of the project has another value, or none: what its versions that name it run with the
  // old one ends, idle processes now, busy ones after their requests. Requests that wait get a new
  // template.
  void renew(std::string_view project, std::string_view secret);
  // The node is short of memory: ends idle processes, least valuable first, until about `wanted`
  // bytes are free; returns how many were.
  Bytes relieve(Bytes wanted);
  bool holds_memory() const;  // there are processes

  // Refuses new calls (draining), waits until the accepted ones are done, at most `timeout`, fails
  // the rest, then ends every process and waits until they are gone. Once.
  Task<void> drain(Duration timeout);

  DispatchStatus status() const;
  // How the next call of the version would find its instance.
  StartTier next_start(const VersionRuntime& version) const;

 private:
  Gate calls_;
  std::unique_ptr<Scheduler> scheduler_;
};

}  // namespace mayfly
