// Calls between functions, in the scheduler.
#include "dispatch/calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/call_reason.h"
#include "core/reason.h"
#include "dispatch/scheduler.h"

namespace mayfly {
namespace {

// The queue that holds up the request's function, which waits for one that it called; null: it goes
// on, or will.
Request* held_up_in_queue(Request& request) {
  for (Request* at = &request; at->called;) {
    Request* callee = at->call.origin->callee;
    if (callee == nullptr) return nullptr;
    if (callee->state == Request::State::Queued) return callee;
    at = callee;
  }
  return nullptr;
}

PlacedCall nobody_answers() {
  return {.message = {.kind = CallKind::Failed,
                      .status = 501,
                      .name = std::string(reason::kUnsupported),
                      .text = "calls = [...] names no function, or nobody answers calls here"}};
}

}  // namespace

// ---- A call, and its answer ---------------------------------------------------------------------

// The core is others' until the answer is there, first of all the callee's.
void Scheduler::instance_called(Worker& worker, PlacedCall call) {
  tick();
  if (worker.state != WorkerState::Running) return;
  const bool alone = worker.requests.size() == 1 && worker.gathering == Worker::Gathering::No;
  if (!alone || !worker.requests.front()->call.origin || !call_handler_) {
    return worker.instance->answer(nobody_answers());
  }
  Request& request = *worker.requests.front();
  request.called = now_;
  release_tokens(worker);
  contend_all(worker.pool.function);
  call_handler_({.by = request.call.origin,
                 .call = std::move(call),
                 .deadline = request.call.deadline,
                 .priority = request.call.priority});
  run();
}

// It has its instance, and its memory: it does not queue for the core again.
void Scheduler::answer(const CallOrigin& caller, PlacedCall answer) {
  Request* request = caller.request;
  if (request == nullptr || !request->called) return;
  tick();
  end_call(*request);
  take_tokens(*request->worker);
  request->worker->instance->answer(std::move(answer));
}

void Scheduler::end_call(Request& request) {
  if (request.called) request.timing.waited += now_ - *std::exchange(request.called, std::nullopt);
}

// ---- Who waits for whom -------------------------------------------------------------------------

void Scheduler::begin_call(Request& request) {
  if (request.call.origin) request.call.origin->request = &request;
  if (request.call.caller) request.call.caller->callee = &request;
}

// It has its outcome: what it called is nobody's. Whoever ends it runs what this makes possible.
void Scheduler::leave_calls(Request& request) {
  if (request.call.caller && request.call.caller->callee == &request)
    request.call.caller->callee = nullptr;
  if (!request.call.origin) return;
  request.call.origin->request = nullptr;
  const bool was_running = std::exchange(running_, true);
  request.call.origin->callees.cancel();
  running_ = was_running;
}

// What can be reached from one version's queue: of whom it waits for what, and of these the callees
// that wait in queues.
struct Scheduler::WaitGraph {
  std::vector<VersionPool*> pools;  // the first is where it began
  std::vector<HeldUp> waiting;      // likewise
  std::vector<Request*> callees;

  std::size_t index_of(VersionPool& pool) {
    const auto found = std::ranges::find(pools, &pool);
    if (found != pools.end()) return static_cast<std::size_t>(found - pools.begin());
    pools.push_back(&pool);
    return pools.size() - 1;
  }
  void add_holders(const VersionPool& of, HeldUp& held) {
    for (const std::unique_ptr<Worker>& worker : of.workers) {
      const WorkerState state = worker->state;
      if (state != WorkerState::Starting && state != WorkerState::Running) continue;
      const bool one = state == WorkerState::Running && worker->requests.size() == 1;
      Request* callee = one ? held_up_in_queue(*worker->requests.front()) : nullptr;
      held.holders.push_back(callee ? std::optional(index_of(*callee->pool)) : std::nullopt);
      if (callee != nullptr) callees.push_back(callee);
    }
  }
};

Scheduler::WaitGraph Scheduler::wait_graph(VersionPool& pool) const {
  WaitGraph graph;
  graph.pools.push_back(&pool);
  for (std::size_t i = 0; i < graph.pools.size(); ++i) {
    const VersionPool& at = *graph.pools[i];
    HeldUp held;
    switch (at.waits_for) {
      case Why::MaxInstances:
        for (const VersionPool* sibling : at.function.pools) graph.add_holders(*sibling, held);
        break;
      case Why::OverQuota:
        graph.add_holders(at, held);
        break;
      case Why::MemoryFull:
        if (builds_ > 0) held.holders.emplace_back();
        for (const auto& [key, other] : pools_) graph.add_holders(*other, held);
        break;
      default:  // that passes
        held.holders.emplace_back();
    }
    graph.waiting.push_back(std::move(held));
  }
  return graph;
}

// Of those in the version's queue for whom the holders of what it lacks wait, the newest is
// refused: it closed the circle, and its end opens it.
void Scheduler::refuse_deadlocked(VersionPool& pool) {
  while (pool.callees > 0) {
    const WaitGraph graph = wait_graph(pool);
    if (!never_ends(graph.waiting, 0)) return;
    Request* newest = nullptr;
    for (Request* callee : graph.callees) {
      if (callee->pool != &pool) continue;
      if (newest == nullptr || callee->accepted >= newest->accepted) newest = callee;
    }
    if (newest == nullptr) return;
    record(pool, Action::Refuse, Why::CallDeadlock);
    const std::string_view what =
        pool.waits_for == Why::MaxInstances ? "max_instances is reached" : "the memory is taken";
    finish(take_from_queue(*newest),
           refuse(reason::kCallDeadlock,
                  fmt::format("{} cannot start: {}, and whoever could make room waits for it",
                              pool.runtime->label, what)));
    touch(pool);
  }
}

}  // namespace mayfly
