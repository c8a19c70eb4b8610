// What every prediction goes through, whatever protocol it came by: name → serving, whether the
// ledger can be written, dispatch, the record, the counters, copies for shadows. The front doors
// decode before it and encode after it:
//
//   Invocation tried = invoker.begin(caller, lookup);
//   CO_TRY_STATUS(co_await invoker.find(tried, name, version));
//   … decode into RequestMemory by tried.serving's signature …
//   CO_TRY(Reply reply, co_await invoker.run(tried, {std::move(memory), timeout, cancel}));
//   … encode …
//   co_await invoker.conclude(tried, reason, bytes);   // before the answer, of every invocation
//   … send the answer …
//   invoker.answered(tried, reason);
//
// Loop thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "async/cancel.h"
#include "async/loop.h"
#include "async/task.h"
#include "core/invocation.h"
#include "dispatch/dispatcher.h"
#include "identity/principal.h"
#include "serving/catalog.h"
#include "serving/crash_guard.h"
#include "serving/ledger_writer.h"
#include "serving/metrics.h"
#include "serving/quota_gate.h"
#include "serving/response_cache.h"
#include "serving/rollouts.h"
#include "serving/serving.h"
#include "serving/shadows.h"
#include "serving/statistics.h"
#include "serving/tracer.h"

namespace mayfly {

// What an invocation is an attempt at that nobody waits for: an event (events/). It runs as a
// guest, and neither shadows nor rollouts look at it.
struct EventAttempt {
  InvocationId event;
  std::uint16_t number = 1;
};

// One try to predict, from its first byte to its record.
struct Invocation {
  // What the caller sent beside the request under a name: an HTTP header, gRPC metadata.
  using Lookup = std::function<std::optional<std::string_view>(std::string_view name)>;

  PrincipalRef caller;  // never null
  InvocationId id;
  WallTime accepted;
  TimePoint begun;     // the head was there
  Lookup lookup;       // what it looks into outlives the invocation
  std::string source;  // whose deaths count together: the key's name, else the peer's address
  std::string request_id;
  std::optional<Tracer::Place> trace;  // nullopt: it is not recorded
  std::optional<EventAttempt> event;
  ServingRef serving;       // null until the function is known: nothing is recorded before
  bool by_traffic = false;  // chosen by the function's traffic, not named by number or alias
  std::shared_ptr<CallOrigin> called_by;  // a function; null: nobody's
  QuotaGate::Place place;                 // among the predictions of the caller's project
  std::optional<Outcome> outcome;
  std::optional<Duration> first_chunk;  // of a stream: since `begun`
  enum class Cache : std::uint8_t { Unused, Hit, Miss } cache = Cache::Unused;
  std::uint64_t received = 0;         // bytes of the request
  std::uint64_t rows = 0;             // that it asks about
  TimePoint decoded;                  // when run() was called
  std::optional<Shadows::Copy> copy;  // for shadows

  StartTier tier() const { return outcome ? outcome->tier : StartTier::None; }
  Timing timing() const { return outcome ? outcome->timing : Timing{}; }
  // When a caller who got `error` may try again; 0: nothing to say.
  std::chrono::seconds retry_after(const Error& error) const;
};

// For Server-Timing: "queue;dur=0.012, start;dur=0.000, run;dur=1.204", in milliseconds.
std::string server_timing(const Timing& timing);

// Of parameters.priority: 1 is the most urgent, 0 stands for a request that names none.
std::uint32_t urgency_of(std::uint64_t priority);

class Invoker {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Catalog& catalog;
    Dispatcher& dispatcher;
    Shadows& shadows;
    Rollouts& rollouts;
    LedgerWriter& ledger;
    Metrics& metrics;
    Statistics& statistics;
    InvocationIds& ids;
    ResponseCache& cache;
    QuotaGate& quotas;
    Tracer& tracer;
  };
  struct Question {
    RequestMemory request;
    std::optional<Duration> timeout;  // as the caller asked; the version's own bounds it
    std::uint32_t priority = kUsualPriority;
    CancelToken cancel{};  // the caller is gone
  };

  explicit Invoker(Parts parts) : parts_(parts) {}

  // X-Request-Id is echoed and recorded when it is given, short and visible.
  // `peer`: "127.0.0.1:51234".
  Invocation begin(PrincipalRef caller, Invocation::Lookup lookup, std::string_view peer);
  // Sets `serving`. Of a split the caller's key chooses the version: Mayfly-Key, else the header
  // that the function names, else each request is on its own. unknown_function, unknown_version;
  // storage_full, with `serving` set: the ledger cannot be written; quota_exceeded, likewise.
  Task<Status> find(Invocation& tried, std::string_view name, std::string_view version);
  // What run() would answer at once as things stand, so that a large body need not be read for it.
  Status admit(Invocation& tried) const;
  // Sets `outcome`. The errors are those of dispatch/outcome.h, and repeated_crashes.
  Task<Result<Reply>> run(Invocation& tried, Question question);
  // The same of a version that streams. next() until it says that there are no more, or close()
  // when the rest is not wanted: then `outcome` is set. No shadow gets a copy, and no reply is
  // kept.
  Result<std::unique_ptr<Stream>> open(Invocation& tried, Question question);
  Task<std::optional<Reply>> next(Invocation& tried, Stream& stream);
  Task<void> close(Invocation& tried, Stream& stream, Error why);
  // Writes the record and counts, before the answer leaves. `reason` is empty for a success. On an
  // error (storage_full) there is no record, and the error is to be the answer.
  Task<Status> conclude(const Invocation& tried, std::string_view reason, std::uint64_t sent);
  // The same of an event's attempt, but that the record is the caller's to write. Not of what found
  // no function.
  InvocationRecord account(const Invocation& tried, std::string_view reason, std::uint64_t sent);
  // The caller has its answer: shadows may now have theirs.
  void answered(Invocation& tried, std::string_view reason);

 private:
  void count(const Invocation& tried, std::string_view reason);
  void tell(const Invocation& tried, std::string_view outcome);
  Call call_of(const Invocation& tried, Question question) const;

  void observe(const Invocation& tried);
  Task<Result<Reply>> ask(Invocation& tried, Question question);
  Status hold_off(Invocation& tried) const;

  Parts parts_;
  CrashGuard crashes_;
};

}  // namespace mayfly
