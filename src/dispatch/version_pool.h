// The state of one version on this node while it has work or processes: its queue, instances and
// template. Plain data that scheduler.cc changes; nothing here decides. Loop thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "async/event.h"
#include "async/gate.h"
#include "async/hook.h"
#include "async/loop.h"
#include "async/timer.h"
#include "base/clock.h"
#include "base/result.h"
#include "core/settings.h"
#include "dispatch/batch_tuner.h"
#include "dispatch/fair_share.h"
#include "dispatch/policy.h"
#include "dispatch/request.h"
#include "dispatch/status.h"
#include "dispatch/value.h"
#include "dispatch/version_runtime.h"
#include "sandbox/spawner.h"

namespace mayfly {

class VersionPool;

enum class WorkerState : std::uint8_t { Starting, Idle, Running, Ending };
inline constexpr std::size_t kWorkerStates = 4;

enum class Afterwards : std::uint8_t { Stay, End };

// One instance.
struct Worker {
  Worker(Loop& loop, VersionPool& owner, std::uint64_t number, Gate::Hold stay,
         std::function<void(Worker&)> on_slow)
      : pool(owner),
        id(number),
        hold(std::move(stay)),
        slow(loop, [this, on_slow = std::move(on_slow)] { on_slow(*this); }) {}
  VersionPool& pool;
  std::uint64_t id;
  Gate::Hold hold;
  std::unique_ptr<Instance> instance;
  WorkerState state = WorkerState::Starting;
  Afterwards afterwards = Afterwards::Stay;  // when its requests are done
  std::vector<Request*> requests;            // that it has not answered, the oldest first
  // Requests that run as one. Open: they gather until the end of the turn, and lie in `requests`
  // too. Sealed: it has them; null is who gave up since.
  struct Member {
    Request* request = nullptr;
    std::uint64_t rows = 0;
  };
  std::vector<Member> batch;
  std::uint64_t batch_rows = 0;
  TimePoint batch_deadline = TimePoint::max();  // the first of its members'
  enum class Gathering : std::uint8_t { No, Open, Sealed } gathering = Gathering::No;
  Timer slow;                // a burst takes longer than it should
  std::size_t index = 0;     // in VersionPool::workers
  std::uint32_t tokens = 0;  // held now
  Duration estimate{};       // charged to the function's share when the tokens were taken
  TimePoint since{};         // of the state, or of taking the tokens
  Duration cpu_seen{};
  Bytes peak{};
  TimePoint peak_sampled{};
  Bytes charged{};  // to the node's memory
};

// What the template is made from.
enum class TemplateSource : std::uint8_t { Artifact, Environment };

struct TemplateSlot {
  TemplateState state = TemplateState::None;
  TemplateSource source = TemplateSource::Artifact;
  std::unique_ptr<Template> process;
  std::uint64_t build = 0;  // tells a build that was given up from its successor
  TimePoint begun{};        // the build
  TimePoint ready{};
  Bytes charged{};
  Duration build_time{};  // the last one's, or as published
  Bytes bytes{};          // measured, or expected
  std::uint64_t forks = 0;
  // Failed starts in a row, of the template or of instances.
  std::uint32_t failures = 0;
  TimePoint retry{};  // the back-off ends
  std::optional<Error> cause{};
};

class FunctionState {
 public:
  explicit FunctionState(FunctionId function) : id(function) {}
  FunctionId id;
  std::shared_ptr<const FunctionSettings> settings;  // the newest seen
  std::uint64_t settings_sequence = 0;               // of the registry when they were read
  std::optional<std::uint32_t> current;  // the version that min_instances and keep_warm mean
  FairShare::Account share;
  std::vector<VersionPool*> pools;
  std::uint32_t queued = 0;
  std::uint32_t in_flight = 0;
  std::uint32_t idle = 0;  // instances
  std::uint32_t busy = 0;  // starting and running
};

struct PoolContender : FairShare::Contender {
  explicit PoolContender(VersionPool& owner, FairShare::Account& account)
      : Contender(account), pool(owner) {}
  VersionPool& pool;
};

// An entry of the node's reclaim order that knows its version.
struct ReclaimEntry : ReclaimOrder::Entry {
  explicit ReclaimEntry(VersionPool& owner, Action how) : pool(owner), action(how) {}
  VersionPool& pool;
  Action action;  // EndInstance or EvictTemplate
};

class VersionPool : public Hook {  // the hook: parked until memory or a build slot is free
 public:
  VersionPool(Loop& loop, FunctionState& owner, std::shared_ptr<const VersionRuntime> what,
              std::move_only_function<void()> on_due)
      : function(owner),
        runtime(std::move(what)),
        tuner(runtime->batching),
        contender(*this, owner.share),
        due(loop, std::move(on_due)) {
    tmpl.bytes = runtime->template_bytes.count != 0 ? runtime->template_bytes : mib(32);
    tmpl.build_time = runtime->build_time;
    instance_bytes = runtime->instance_bytes.count != 0 ? runtime->instance_bytes : mib(4);
  }
  FunctionState& function;
  std::shared_ptr<const VersionRuntime> runtime;
  Standing standing = Standing::Serving;
  bool to_zero = false;  // asked for while it was at work: once nothing waits

  RequestQueue queue;
  std::uint32_t queued = 0;
  std::uint64_t queued_rows = 0;  // of those that can be batched
  TimePoint earliest_deadline{};  // of what waits, or earlier
  BatchTuner tuner;
  bool mixes_rows = false;  // batches of it cannot be cut apart
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<Worker*> idle;     // the longest idle first; the most recent is used first
  Worker* last_given = nullptr;  // the instance that was given the latest request
  std::uint32_t starting = 0;
  std::uint32_t running = 0;
  std::uint32_t ending = 0;
  TemplateSlot tmpl;
  std::vector<Promise<void>> warming;  // wait for the template without a request

  PoolContender contender;
  enum class Parked : std::uint8_t { No, ForMemory, ForBuild } parked = Parked::No;
  Why waits_for = Why::NothingWanted;  // as decided last; of what waits for nothing now: nothing
  std::uint32_t callees = 0;           // of those queued, what functions have called
  std::uint32_t starves = 0;           // 1: parked for memory while the function has no instance
  bool touched = false;                // in Scheduler::touched_
  ReclaimEntry reclaim_instance{*this, Action::EndInstance};
  ReclaimEntry reclaim_template{*this, Action::EvictTemplate};
  Timer due;               // upkeep, end of a back-off, next attempt to keep warm
  TimePoint keep_retry{};  // not before this is anything started that nobody waits for

  Rate rate;
  TimePoint last_used{};
  Duration mean_run{};
  Bytes instance_bytes{};  // the next instance is expected to need
  DecisionLog<8> decisions;

  bool current() const { return function.current == runtime->key.version; }
  std::uint32_t live() const {
    return starting + running + static_cast<std::uint32_t>(idle.size());
  }
};

}  // namespace mayfly
