// One prediction's way through dispatch: what is asked and what came of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "async/cancel.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "core/invocation.h"
#include "core/settings.h"
#include "dispatch/version_runtime.h"
#include "sandbox/channel.h"
#include "sandbox/spawner.h"

namespace mayfly {

struct CallOrigin;

// Of requests that name none.
inline constexpr std::uint32_t kUsualPriority = 100;
inline constexpr std::uint32_t kLastPriority = 1000;

struct Call {
  std::shared_ptr<const VersionRuntime> version;
  // Of the function, and of which state of the registry: dispatch goes by the newest it has seen.
  std::shared_ptr<const FunctionSettings> settings;
  std::uint64_t settings_sequence = 0;
  RequestMemory request;
  TimePoint deadline;
  // 1 is the most urgent: within its version a request goes before all of a larger number.
  std::uint32_t priority = kUsualPriority;
  CancelToken cancel{};  // the client is gone: its work is ended
  // Calls between functions (calls.h). The request's own, where its function may call; and its
  // caller's, where a function has called it.
  std::shared_ptr<CallOrigin> origin{};
  std::shared_ptr<CallOrigin> caller{};
};

struct Outcome {
  // Reasons of errors: call_deadlock, queue_full, hopeless_deadline, memory_pressure, draining,
  // start_failed, instance_crashed, out_of_memory, deadline_exceeded, client_gone, model_error,
  // bad_reply.
  Result<Reply> reply;
  StartTier tier = StartTier::None;
  Timing timing{};
  Bytes peak_memory{};         // of the instance so far, sampled at most every 100 ms; 0: unknown
  Bytes memory_limit{};        // of the instance
  std::uint64_t instance = 0;  // unique on this node since it started; 0: none
  std::chrono::seconds retry_after{};  // for Retry-After; 0: nothing to say
  std::uint32_t batch = 1;             // requests that ran as one, this one among them
  bool leads = true;                   // of each batch, one
  std::uint64_t batch_rows = 0;        // of the whole batch; 0: it ran in none
  Duration batch_run{};                // the whole run, of which timing.run is a share
  std::string traceback{};             // of a function_error: for who may read the function's logs
};

}  // namespace mayfly
