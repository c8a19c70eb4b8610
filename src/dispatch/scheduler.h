// The thin loop around policy.h: it keeps the state of every version that has work or processes,
// asks the policy what to do whenever something happened, does it, and remembers why. Internal to
// dispatch; dispatcher.h is the door.
//
// Every event (a call, a reply, an exit, a timer) changes the state it is about, touches the
// versions concerned and calls run(). run() serves those that may act, in the order of
// fair_share.h, until nothing more can be done, then looks after the versions touched: idle
// timeouts, dropping what is at zero. A version waits in exactly one place: among the contenders
// (work to do, or all cores taken), parked (memory or a build slot), or nowhere when only an event
// of its own function can help it. An event costs O(log n) in the versions that wait.
//
// Processes are told to end at once, but their objects are destroyed by a timer, never inside one
// of their own callbacks. Memory is accounted as free from the kill on: SIGKILL is not negotiable.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "async/event.h"
#include "async/gate.h"
#include "async/loop.h"
#include "async/task.h"
#include "async/timer.h"
#include "base/result.h"
#include "dispatch/dispatcher.h"
#include "dispatch/environment_slot.h"
#include "dispatch/fair_share.h"
#include "dispatch/policy.h"
#include "dispatch/status.h"
#include "dispatch/value.h"
#include "dispatch/version_pool.h"
#include "sandbox/spawner.h"

namespace mayfly {

class Scheduler {
 public:
  Scheduler(Loop& loop, Spawner& spawner, DispatchOptions options);  // both outlive me
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Decides the request's fate or lets it wait; it is resumed when it has an outcome.
  void admit(Request& request);
  // What every call of the version gets now; nullopt: that depends on the call.
  std::optional<Outcome> refusal(VersionKey version);
  // Of a stream: the chunk that has arrived, and the next one is asked for. / The rest is not
  // wanted.
  Reply take_chunk(Request& request);
  void close(Request& request, Error why);
  void set_calls(CallHandler handler) { call_handler_ = std::move(handler); }
  void answer(const CallOrigin& caller, PlacedCall answer);
  // The request is being destroyed without an outcome.
  void abandon(Request& request);

  void serve(std::shared_ptr<const VersionRuntime> current,
             std::shared_ptr<const FunctionSettings> settings, std::uint64_t sequence);
  // The promise is kept when the version's template is ready or cannot become so.
  void warm(std::shared_ptr<const VersionRuntime> version,
            std::shared_ptr<const FunctionSettings> settings, std::uint64_t sequence,
            Promise<void> warmed);
  StartTier next_start(const VersionRuntime& runtime);
  bool has_room_for_guests() const { return tokens_used_ < options_.cores && share_.size() == 0; }
  bool resident(FunctionId function) const { return functions_.contains(function); }
  void retire(FunctionId function);
  void retire(VersionKey version);
  void evict(FunctionId function);
  void evict(VersionKey version);
  void renew(std::string_view project, std::string_view secret);
  Bytes relieve(Bytes wanted);

  void fail_all(const Error& error);  // every request, queued or running
  void stop();                        // ends every process; nothing is started any more
  void destroy_all();                 // without waiting for their ends
  Gate& processes() { return processes_; }
  Bytes memory_used() const { return memory_used_; }
  Loop& loop() { return loop_; }
  DispatchStatus status() const;

 private:
  friend class Request;
  enum class Flow : std::uint8_t { GoOn, Stop };

  // Admission (admission.cc)
  VersionPool& pool_of(std::shared_ptr<const VersionRuntime> version,
                       std::shared_ptr<const FunctionSettings> settings, std::uint64_t sequence);
  VersionPool& add_pool(FunctionState& function, std::shared_ptr<const VersionRuntime> runtime);
  FunctionState& function_of(FunctionId id);
  VersionPool* find(VersionKey key) const;
  struct Refusal {
    Error error{};
    std::chrono::seconds retry_after{};
  };
  std::optional<Refusal> refusal(const Request& request, const VersionPool& pool) const;
  std::optional<Refusal> refusal(const VersionPool& pool) const;
  Refusal queue_full(const VersionPool& pool) const;
  Refusal start_refused(const VersionPool& pool) const;
  QueueView queue_view(const VersionPool& pool) const;
  void enqueue(Request& request, VersionPool& pool);
  bool dispatch_at_once(Request& request, VersionPool& pool);
  Worker* joinable(const Request& request, const VersionPool& pool) const;
  bool holds_back(const Request& request, const VersionPool& pool) const;
  void watch_for_end(Request& request);
  void give_up(Request& request, Why why, Error error);
  Request& take_from_queue(Request& request);
  void finish(Request& request, Result<Reply> reply, std::chrono::seconds retry_after = {});
  void wake(Request& request);
  void fail_queue(VersionPool& pool, const Refusal& why);

  // The loop (scheduler.cc)
  void tick() { now_ = loop_.now(); }
  void touch(VersionPool& pool);
  void run();
  void pump();
  VersionPool* retry_parked();
  Flow step(VersionPool& pool);
  Flow act(VersionPool& pool, Decision decision);
  void dispatch(VersionPool& pool);
  Flow wait(VersionPool& pool, Why why);
  void refuse_all(VersionPool& pool, Why why);
  void put_off(VersionPool& pool, Error why);
  void park(VersionPool& pool, VersionPool::Parked where);
  void unpark(VersionPool& pool);
  void contend(VersionPool& pool);
  void contend_all(FunctionState& function);
  bool wants_something(VersionPool& pool) const;
  VersionLoad load_of(VersionPool& pool) const;
  NodeLoad node_load() const;
  void record(VersionPool& pool, Action action, Why why);

  // Batches (batches.cc)
  bool batches(const VersionPool& pool) const;
  bool gathers(const Request& request, const VersionPool& pool) const;
  TimePoint released(VersionPool& pool) const;
  std::uint64_t batch_limit(VersionPool& pool, std::uint64_t rows) const;
  TimePoint batch_deadline(const Request& request, const VersionPool& pool) const;
  bool in_time(const VersionPool& pool, std::uint64_t rows, TimePoint deadline) const;
  Worker* open_batch(const Request& request, const VersionPool& pool) const;
  void gather(Request& request, Worker& worker);
  void fill(Worker& worker);
  void seal_batches();
  void seal(Worker& worker);
  void stand_down(Worker& worker);
  static void forget_batch(Worker& worker);
  enum class Alone : std::uint8_t { No, Yes };
  void disband_batch(Worker& worker, Alone alone);
  void leave_batch(Request& request, Worker& worker, Why why);
  static Duration share_of(Duration whole, std::uint64_t rows, std::uint64_t all);
  void settle_batch(Worker& worker, Result<Reply> reply);
  void finish_batch(Worker& worker, std::vector<Reply> parts);

  // Chunks (stream.cc)
  void chunk_arrived(Worker& worker, Reply chunk);

  // Calls between functions (calls.cc)
  void instance_called(Worker& worker, PlacedCall call);
  void begin_call(Request& request);
  void end_call(Request& request);
  void leave_calls(Request& request);
  struct WaitGraph;
  WaitGraph wait_graph(VersionPool& pool) const;
  void refuse_deadlocked(VersionPool& pool);

  // Looking after versions (upkeep.cc)
  void look_after(VersionPool& pool);
  Keep keep_of(const VersionPool& pool) const;
  void answer_warming(VersionPool& pool, const Status& status);
  RestView rest_of(const VersionPool& pool) const;
  TimePoint end_overdue(VersionPool& pool);
  TimePoint end_back_off(VersionPool& pool);
  void end_stuck_starts(VersionPool& pool);
  void list_for_reclaim(VersionPool& pool);
  bool droppable(const VersionPool& pool) const;
  void drop(VersionPool& pool);
  ReclaimEntry* victim();
  Bytes reclaim(ReclaimEntry& entry, Why why);
  ReclaimEntry* victim_of(const MemoryShare* share);
  bool end_guest(const MemoryShare* of);
  Room make_room(const MemoryShare* of);
  void evict(VersionPool& pool);
  void renew(VersionPool& pool);
  void retire(VersionPool& pool);

  // Processes (processes.cc)
  void begin_build(VersionPool& pool);
  Task<void> build(std::shared_ptr<const VersionRuntime> runtime, std::uint64_t number);
  void start_template(VersionPool& pool, Path artifact, Secrets secrets);
  TemplateEvents template_events(VersionPool& pool);
  void template_ready(VersionPool& pool, Result<TemplateReady> ready);
  void template_lost(VersionPool& pool, Exit exit);
  void end_template(VersionPool& pool, Why why);
  void start_failed(VersionPool& pool, Error cause);
  void fork(VersionPool& pool);
  InstanceEvents events_of(Worker& worker);
  void hold(Request& request, Worker& worker);
  void hand_over(Request& request, Worker& worker);
  void join(Request& request, Worker& worker);
  void give(Request& request, Worker& worker);
  void put_back(Request& request);
  void disband(Worker& worker);
  void take_unbegun(Worker& worker);
  void instance_started(Worker& worker);
  void instance_replied(Worker& worker, Replies replies);
  void instance_slow(Worker& worker);
  bool begin_close(Request& request, const Error& why);
  void settle(Worker& worker, Replies replies);
  void instance_exited(Worker& worker, Exit exit);
  void end(Worker& worker, Why why);
  void make_idle(Worker& worker);
  void leave_idle(Worker& worker);
  Duration unbilled(Worker& worker) const;
  void bill(Request& request, Worker& worker, Duration ran, Duration cpu);
  void release(Request& request, Worker& worker, Duration ran, Duration cpu);
  void release_unanswered(Request& request, Worker& worker);
  void fail_held(Worker& worker, const Error& error, std::chrono::seconds retry_after = {});
  void set_state(Worker& worker, WorkerState state);
  void take_tokens(Worker& worker);
  void release_tokens(Worker& worker);
  void sample(Worker& worker);
  void charge(MemoryShare* share, Bytes& slot, Bytes amount);
  void charge(const VersionPool& pool, Bytes& slot, Bytes amount) {
    charge(pool.runtime->share.get(), slot, amount);
  }
  void bury(std::unique_ptr<Template> process);
  void bury(std::unique_ptr<EnvironmentTemplate> process);
  void bury(Worker& worker);

  // Environment templates (environments.cc)
  EnvironmentSlot* environment_of(const VersionRuntime& runtime) const;
  EnvironmentSlot* ready_environment(const VersionRuntime& runtime) const;
  EnvironmentSlot* find_attempt(const std::string& key, std::uint64_t attempt) const;
  bool start_from_environment(VersionPool& pool, const TemplateSpec& spec);
  void start_without_environment(VersionPool& pool, const Error& cause);
  void use_environment(const VersionPool& pool);
  void prepare_environments();
  Task<void> prepare(std::string key, std::vector<std::shared_ptr<const VersionRuntime>> users,
                     std::uint64_t attempt);
  void environment_ready(const std::string& key, std::uint64_t attempt,
                         Result<TemplateReady> ready);
  void environment_lost(const std::string& key, std::uint64_t attempt, Exit exit);
  void environment_failed(EnvironmentSlot& slot, const Error& cause);
  void end_environment(EnvironmentSlot& slot, TimePoint again);
  void forget_environment(const std::string& key);
  void look_after_environment(const std::string& key);
  bool evict_environment(const MemoryShare* of);
  void leave_environments(FunctionId function, std::optional<std::uint32_t> version);
  void end_environments();
  EnvironmentsStatus environments_status() const;

  Loop& loop_;
  Spawner& spawner_;
  const DispatchOptions options_;
  TimePoint now_;  // of the event being handled

  Gate processes_;  // held by every instance and every build
  std::unordered_map<FunctionId, std::unique_ptr<FunctionState>, FunctionIdHash> functions_;
  FairShare share_;
  ReclaimOrder reclaim_order_;
  HookList<VersionPool> parked_for_memory_;
  HookList<VersionPool> parked_for_build_;
  std::unordered_map<VersionKey, std::unique_ptr<VersionPool>, VersionKeyHash> pools_;
  std::vector<VersionPool*> touched_;
  enum class Mode : std::uint8_t { Serving, Stopping } mode_ = Mode::Serving;
  bool running_ = false;
  bool memory_freed_ = false;  // since the first version parked for memory was last tried
  bool build_freed_ = false;

  std::uint32_t tokens_used_ = 0;
  std::uint32_t builds_ = 0;
  Bytes memory_used_;
  std::uint32_t without_memory_ = 0;
  std::uint64_t workers_made_ = 0;
  std::uint64_t builds_made_ = 0;
  std::array<std::array<std::uint64_t, kWhys>, kActions> counts_{};

  std::vector<Worker*> gathering_;  // with open batches
  TurnEnd seal_;

  CallHandler call_handler_;
  std::map<std::string, std::unique_ptr<EnvironmentSlot>> environments_;  // by key
  bool environments_wanted_ = false;  // some may be prepared as soon as there is room
  std::uint32_t preparing_ = 0;

  Timer patience_;
  std::vector<std::unique_ptr<Worker>> dead_workers_;
  std::vector<std::unique_ptr<Template>> dead_templates_;
  std::vector<std::unique_ptr<EnvironmentTemplate>> dead_environments_;
  Timer burial_;
};

}  // namespace mayfly
