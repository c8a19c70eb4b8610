// The scaling policy: pure functions from a snapshot to what to do and why. No clock, no process,
// no state: scheduler.h takes the snapshots and acts.
//
// The rule: an idle instance, else fork, else queue. Forking is bounded by
//   - max_instances, over all versions of a function (an idle instance of another version yields);
//   - CPU: each running or starting instance holds `tokens` (its threads, at most all); the sum
//     stays within the node's cores. A function that has nothing running and has waited longer
//     than the node's patience may go up to twice that, so that other functions' long calls cannot
//     starve it: the kernel then shares the cores;
//   - memory: what a new process is expected to need must fit the budget; idle processes are ended
//     for it, least valuable first (value.h). What an owner's processes hold together is bounded
//     likewise where he has a quota, and room is made among his own; but who finds none is refused
//     instead of waiting, unless an instance of the version will be free again.
// What a function has called waits like any other request, unless it would wait for its own caller
// (never_ends()): then it is refused.
// Which function is asked first is fair_share.h's business. Nothing is forked ahead of demand but
// min_instances.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"

namespace mayfly {

enum class Action : std::uint8_t {
  None,           // nothing is wanted
  Dispatch,       // hand the oldest queued request to an idle instance
  Fork,           // with the oldest queued request in hand, if there is one
  BuildTemplate,  //
  MakeRoom,       // end the least valuable idle process of the node, then ask again
  MakeShareRoom,  // the same among those of the version's owner
  EndSibling,     // end an idle instance of another version of the function, then ask again
  EndInstance,    // end this version's longest idle instance, then ask again
  EvictTemplate,  //
  Wait,           // until what `why` names has changed
  Refuse,         // fail what is queued: it can never run here
};
inline constexpr std::size_t kActions = 11;
std::string_view to_string(Action action);

enum class Why : std::uint8_t {
  NothingWanted,
  IdleInstance,
  JoinsBurst,
  JoinsBatch,
  Demand,
  Starved,
  MinInstances,
  KeepWarm,
  CpuFull,
  MaxInstances,
  TemplateBuilding,
  BackingOff,
  BuildsFull,
  MemoryFull,
  TooLargeForNode,
  OverQuota,
  CallDeadlock,
  SiblingIdle,
  YieldMemory,
  IdleTimeout,
  TemplateTimeout,
  MemoryPressure,
  FreshPerRequest,
  Retired,
  Asked,
  BadReply,
  Deadline,
  ClientGone,
  Crashed,
  OutOfMemory,
  StartFailed,
  TemplateLost,
  Stopping,
};
inline constexpr std::size_t kWhys = 33;
std::string_view slug(Why why);     // "idle_timeout": for metrics
std::string_view explain(Why why);  // "idle longer than idle_timeout": for people

enum class TemplateState : std::uint8_t { None, Building, Ready, BackingOff };
std::string_view to_string(TemplateState state);

enum class Keep : std::uint8_t { Nothing, Template };

// A guest takes only what nobody else wants: it starts where a core is free, or is refused, and
// holds no token for it; it runs at a small share where processors are short; it never makes room
// in memory and is the first to be ended for it; its build keeps no other from building.
enum class Rank : std::uint8_t { Caller, Guest };

enum class Room : std::uint8_t { MayBeMade, NoneLeft };  // NoneLeft: no idle process is left to end

// One version, with what its function's settings and other versions mean for it.
struct VersionLoad {
  std::uint32_t queued = 0;
  std::uint32_t idle = 0;  // instances, by state
  std::uint32_t starting = 0;
  std::uint32_t running = 0;
  std::uint32_t function_busy = 0;  // starting and running instances of all versions
  std::uint32_t function_idle = 0;  // idle instances of all versions
  std::uint32_t min_instances = 0;  // 0 unless it is the function's current version
  std::uint32_t max_instances = 0;  // 0: unlimited
  Keep keep = Keep::Nothing;
  TemplateState template_state = TemplateState::None;
  Rank rank = Rank::Caller;
  std::uint32_t threads = 1;
  Bytes instance_bytes{};  // expected of the next instance
  Bytes template_bytes{};  // expected of the template
  Bytes quota{};           // of its owner; 0: none
  Bytes quota_used{};
  Room quota_room = Room::MayBeMade;
  Duration waited{};  // of the oldest queued request
};

struct NodeLoad {
  std::uint32_t tokens = 1;
  std::uint32_t tokens_used = 0;
  std::uint32_t builds = 0;  // templates being built
  std::uint32_t max_builds = 1;
  Bytes memory{};
  Bytes memory_used{};
  Room room = Room::MayBeMade;
  // Functions without any instance that wait for memory.
  std::uint32_t without_memory = 0;
  Duration patience = std::chrono::milliseconds(500);
};

struct Decision {
  Action action = Action::None;
  Why why = Why::NothingWanted;
  bool operator==(const Decision&) const = default;
};

// What one instance of `threads` counts for on a node of `tokens`.
std::uint32_t tokens_of(std::uint32_t threads, std::uint32_t tokens);

Decision decide(const VersionLoad& version, const NodeLoad& node);

// ---- Bursts: requests that one instance gets together -------------------------------------------

// What the instance that was given the latest request, in this turn of the loop, already holds.
struct BurstView {
  std::uint32_t held = 0;
  std::uint32_t others = 0;  // further instances that could begin at once
  Duration mean_run{};       // 0: not known yet
};

// Whether the next request joins them rather than another instance or the queue. Waking a process
// on another core costs some 50 µs, so that less work than that is not worth a second instance; and
// no request waits in a burst longer than kLongestBurst, as far as can be known.
bool joins_burst(const BurstView& burst);
inline constexpr Duration kWorthWaking = std::chrono::microseconds(50);
inline constexpr Duration kLongestBurst = std::chrono::microseconds(200);
// What has not begun after this is given to other instances.
inline constexpr Duration kSlowBurst = std::chrono::milliseconds(5);

// ---- Batches: requests that run as one ----------------------------------------------------------

struct BatchView {
  std::uint64_t waiting = 0;                      // rows
  std::uint32_t cap = 1;                          // rows of the largest batch
  std::span<const std::uint32_t> preferred = {};  // ascending
  TimePoint oldest{};                             // when the one that waits longest was accepted
  Duration max_delay{};
  TimePoint deadline{};  // the earliest of those that wait
  Duration expected{};   // of their run
};

// When a batch of what waits may be given to an instance: once it is full or has a preferred size;
// else when the oldest has waited long enough, and in time for every deadline (twice what is
// expected before it: half of all runs take longer than their mean).
TimePoint batch_release(const BatchView& view);

struct BatchShare {
  std::uint64_t waiting = 0;  // rows, those that the batch has already among them
  std::uint32_t cap = 1;
  std::span<const std::uint32_t> preferred = {};
  std::uint32_t instances = 1;  // that may share the work
  Duration expected{};          // of a batch of everything; 0: unknown
};

// How many rows a batch takes: the largest preferred size that there is, else as many as may be. No
// instance takes what another could begin with, where each part is worth waking one.
std::uint64_t batch_rows(const BatchShare& share);

// ---- Calls: requests that other requests wait for
// ------------------------------------------------

// Requests of one version that wait for what others hold. Each holder goes on by itself (nullopt),
// or waits for a function that it called, which waits in the queue of another of these, by index.
struct HeldUp {
  std::vector<std::optional<std::size_t>> holders{};
};

// Whether what the requests of `waiting[of]` wait for is never let go of: whoever holds it, and
// whoever they wait for, waits in these queues himself. It is enough that one of them goes on: once
// he has ended, it is asked again.
bool never_ends(std::span<const HeldUp> waiting, std::size_t of);

// ---- What a version keeps while nobody asks -----------------------------------------------------

enum class Standing : std::uint8_t { Serving, Retiring };

struct RestView {
  Standing standing = Standing::Serving;
  std::uint32_t queued = 0;
  std::uint32_t idle = 0;
  std::uint32_t busy = 0;  // starting and running
  std::uint32_t min_instances = 0;
  Keep keep = Keep::Nothing;
  TimePoint oldest_idle{};  // since when; only read when idle > 0
  Duration idle_timeout{};
  TemplateState template_state = TemplateState::None;
  TimePoint last_used{};  // a request came or ended, or the template became ready
  Duration template_timeout{};
};

// EndInstance (the longest idle one), EvictTemplate or None; `next`: when to ask again at the
// latest if nothing happens before.
struct Upkeep {
  Decision decision;
  TimePoint next = TimePoint::max();
};
Upkeep upkeep(const RestView& view, TimePoint now);

// ---- Estimates ----------------------------------------------------------------------------------

struct QueueView {
  std::uint32_t queued = 0;  // ahead of the request
  Duration mean_run{};       // 0: not known yet
  std::uint32_t threads = 1;
  std::uint32_t max_instances = 0;
  std::uint32_t tokens = 1;
};

// How long the queue takes at best: with the whole node for itself. Never refuses what could have
// made it, and an empty queue estimates 0, so that one slow call cannot shut a function for good.
Duration estimated_wait(const QueueView& view);

// For Retry-After: whole seconds, 1 to 60.
std::chrono::seconds retry_after(Duration estimate);

// The pause after the n-th failed start in a row (n ≥ 1): 0.5 s, doubled each time, at most 60 s.
Duration back_off(std::uint32_t failures);
inline constexpr Duration kLongestBackOff = std::chrono::seconds(60);

}  // namespace mayfly
