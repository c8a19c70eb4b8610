// The policy, exhaustively: each rule on its own, then invariants over every small snapshot.
#include "dispatch/policy.h"

#include <array>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr NodeLoad kNode{.tokens = 2, .memory = mib(100)};

VersionLoad ready() {
  return {.queued = 1,
          .template_state = TemplateState::Ready,
          .instance_bytes = mib(1),
          .template_bytes = mib(20)};
}

RestView at_rest() {
  return {.idle = 1,
          .oldest_idle = TimePoint(100s),
          .idle_timeout = 60s,
          .template_state = TemplateState::Ready,
          .last_used = TimePoint(100s),
          .template_timeout = 600s};
}

}  // namespace

TEST_CASE("every action, reason and state has a name of its own") {
  std::set<std::string_view> slugs;
  for (std::size_t i = 0; i < kWhys; ++i) {
    CHECK_FALSE(explain(static_cast<Why>(i)).empty());
    slugs.insert(slug(static_cast<Why>(i)));
  }
  CHECK(slugs.size() == kWhys);
  CHECK(slug(Why::Stopping) == "stopping");
  CHECK(slug(Why::IdleTimeout) == "idle_timeout");
  CHECK(to_string(Action::Refuse) == "refuse");
  CHECK(to_string(TemplateState::BackingOff) == "backing_off");
}

TEST_CASE("an idle instance, else fork, else queue") {
  VersionLoad load = ready();
  CHECK(decide(load, kNode) == Decision{Action::Fork, Why::Demand});
  load.idle = load.function_idle = 1;
  CHECK(decide(load, kNode) == Decision{Action::Dispatch, Why::IdleInstance});
  NodeLoad full = kNode;
  full.tokens_used = 2;
  CHECK(decide(load, full) == Decision{Action::Wait, Why::CpuFull});
  load.idle = load.function_idle = 0;
  CHECK(decide(load, full) == Decision{Action::Wait, Why::CpuFull});
  CHECK(decide(VersionLoad{}, kNode) == Decision{Action::None, Why::NothingWanted});
}

TEST_CASE("max_instances counts all versions of a function; an idle sibling yields") {
  VersionLoad load = ready();
  load.max_instances = 2;
  load.function_busy = 2;
  CHECK(decide(load, kNode) == Decision{Action::Wait, Why::MaxInstances});
  load.function_busy = 1;
  load.function_idle = 1;
  CHECK(decide(load, kNode) == Decision{Action::EndSibling, Why::SiblingIdle});
  load.function_idle = 0;
  CHECK(decide(load, kNode).action == Action::Fork);
}

TEST_CASE("a template is built when none is there, and nothing else happens meanwhile") {
  VersionLoad load = ready();
  load.template_state = TemplateState::None;
  CHECK(decide(load, kNode) == Decision{Action::BuildTemplate, Why::Demand});
  NodeLoad building = kNode;
  building.builds = building.max_builds;
  CHECK(decide(load, building) == Decision{Action::Wait, Why::BuildsFull});
  load.template_state = TemplateState::Building;
  CHECK(decide(load, kNode) == Decision{Action::Wait, Why::TemplateBuilding});
  load.template_state = TemplateState::BackingOff;
  CHECK(decide(load, kNode) == Decision{Action::Wait, Why::BackingOff});
  load.idle = 1;  // an instance that lives serves on
  CHECK(decide(load, kNode).action == Action::Dispatch);
}

TEST_CASE("a build waits for no core, a fork does") {
  NodeLoad full = kNode;
  full.tokens_used = 2;
  VersionLoad load = ready();
  load.template_state = TemplateState::None;
  CHECK(decide(load, full).action == Action::BuildTemplate);
}

TEST_CASE("a threaded version takes its threads, at most all cores") {
  CHECK(tokens_of(1, 4) == 1);
  CHECK(tokens_of(3, 4) == 3);
  CHECK(tokens_of(64, 4) == 4);
  CHECK(tokens_of(0, 4) == 1);
  VersionLoad load = ready();
  load.threads = 8;
  CHECK(decide(load, kNode).action == Action::Fork);
  NodeLoad half = kNode;
  half.tokens_used = 1;
  CHECK(decide(load, half) == Decision{Action::Wait, Why::CpuFull});
}

TEST_CASE("a function with nothing running may exceed the cores after the patience, up to twice") {
  NodeLoad full = kNode;
  full.tokens_used = 2;
  VersionLoad load = ready();
  load.waited = full.patience - 1ns;
  CHECK(decide(load, full).action == Action::Wait);
  load.waited = full.patience;
  CHECK(decide(load, full) == Decision{Action::Fork, Why::Starved});
  load.idle = load.function_idle = 1;
  CHECK(decide(load, full) == Decision{Action::Dispatch, Why::Starved});
  load.function_busy = 1;
  CHECK(decide(load, full).action == Action::Wait);
  load.function_busy = 0;
  full.tokens_used = 4;
  CHECK(decide(load, full).action == Action::Wait);
}

TEST_CASE("memory: make room, then wait, and refuse what can never fit") {
  NodeLoad tight = kNode;
  tight.memory_used = mib(100);
  VersionLoad load = ready();
  CHECK(decide(load, tight) == Decision{Action::MakeRoom, Why::MemoryFull});
  tight.room = Room::NoneLeft;
  CHECK(decide(load, tight) == Decision{Action::Wait, Why::MemoryFull});
  load.instance_bytes = mib(101);
  CHECK(decide(load, tight) == Decision{Action::Refuse, Why::TooLargeForNode});
  load.instance_bytes = mib(1);
  load.template_bytes = mib(100);
  CHECK(decide(load, tight).action == Action::Wait);  // its template is there
  load.template_state = TemplateState::None;
  CHECK(decide(load, tight).action == Action::Refuse);  // the first instance must fit as well
}

TEST_CASE("instances yield to a function that waits for memory with none, but for the last one") {
  NodeLoad node = kNode;
  node.without_memory = 1;
  VersionLoad load = ready();
  load.idle = load.function_idle = 2;
  CHECK(decide(load, node) == Decision{Action::EndInstance, Why::YieldMemory});
  load.idle = load.function_idle = 1;
  CHECK(decide(load, node).action == Action::Dispatch);
  load.idle = load.function_idle = 0;
  load.function_busy = 1;
  CHECK(decide(load, node) == Decision{Action::Wait, Why::MemoryFull});  // nor does it grow
  load.function_busy = 0;
  CHECK(decide(load, node).action == Action::Fork);
}

TEST_CASE("what is kept is started without a request, but makes no room for itself") {
  VersionLoad load{.min_instances = 1,
                   .template_state = TemplateState::Ready,
                   .instance_bytes = mib(1),
                   .template_bytes = mib(20)};
  CHECK(decide(load, kNode) == Decision{Action::Fork, Why::MinInstances});
  load.starting = load.function_busy = 1;
  CHECK(decide(load, kNode).action == Action::None);
  load = {.keep = Keep::Template, .template_bytes = mib(20)};
  CHECK(decide(load, kNode) == Decision{Action::BuildTemplate, Why::KeepWarm});
  NodeLoad tight = kNode;
  tight.memory_used = mib(90);
  CHECK(decide(load, tight) == Decision{Action::Wait, Why::MemoryFull});
}

TEST_CASE("a quota: make room among the owner's, wait for an own instance, else refuse") {
  VersionLoad load = ready();
  load.quota = mib(10);
  load.quota_used = mib(9);
  CHECK(decide(load, kNode).action == Action::Fork);
  load.quota_used = mib(10);
  CHECK(decide(load, kNode) == Decision{Action::MakeShareRoom, Why::OverQuota});
  load.quota_room = Room::NoneLeft;
  CHECK(decide(load, kNode) == Decision{Action::Refuse, Why::OverQuota});
  load.running = 1;
  CHECK(decide(load, kNode) == Decision{Action::Wait, Why::OverQuota});
  load.quota = {};
  CHECK(decide(load, kNode).action == Action::Fork);
}

TEST_CASE("over every small snapshot the bounds hold and a request is never forgotten") {
  const std::array states = {TemplateState::None, TemplateState::Building, TemplateState::Ready,
                             TemplateState::BackingOff};
  std::size_t seen = 0;
  for (unsigned bits = 0; bits < (1U << 18); ++bits) {
    auto take = [bits, at = 0U](unsigned width) mutable {
      const unsigned value = (bits >> at) & ((1U << width) - 1);
      at += width;
      return value;
    };
    VersionLoad load{.instance_bytes = mib(1), .template_bytes = mib(20)};
    load.queued = take(1);
    load.idle = take(1);
    load.running = take(1);
    load.function_busy = load.running + take(1);
    load.function_idle = load.idle + take(1);
    load.max_instances = take(2);
    load.min_instances = take(1);
    load.threads = take(1) + 1;
    load.waited = take(1) * 1s;
    load.template_state = states.at(take(2));
    load.quota_used = mib(take(1) * 30);
    load.quota = mib(30);
    load.quota_room = take(1) == 0 ? Room::MayBeMade : Room::NoneLeft;
    NodeLoad node = kNode;
    node.tokens_used = take(2);
    node.memory_used = mib(take(1) * 100);
    node.room = take(1) == 0 ? Room::MayBeMade : Room::NoneLeft;
    const Decision decision = decide(load, node);
    ++seen;
    if (load.queued > 0) CHECK(decision.action != Action::None);
    if (decision.action == Action::Fork) {
      CHECK(load.template_state == TemplateState::Ready);
      CHECK(node.memory_used + load.instance_bytes <= node.memory);
      if (load.queued > 0 && load.max_instances > 0) {
        CHECK(load.function_busy + load.function_idle < load.max_instances);
      }
    }
    if (decision.action == Action::Fork || decision.action == Action::Dispatch) {
      const std::uint32_t after = node.tokens_used + tokens_of(load.threads, node.tokens);
      CHECK(after <= (decision.why == Why::Starved ? 2 : 1) * node.tokens);
    }
    if (decision.action == Action::Dispatch) CHECK(load.idle > 0);
    if (decision.action == Action::EndSibling) CHECK(load.function_idle > load.idle);
    if (decision.action == Action::MakeRoom) CHECK(node.room == Room::MayBeMade);
    if (decision.action == Action::MakeShareRoom) CHECK(load.quota_room == Room::MayBeMade);
    const bool starts = decision.action == Action::Fork || decision.action == Action::BuildTemplate;
    if (starts) CHECK(load.quota_used == Bytes{});
    if (load.queued > 0 && load.idle > 0) CHECK(decision.action != Action::Fork);
  }
  CHECK(seen == 262144);
}

TEST_CASE("an idle instance ends exactly after idle_timeout, min_instances stay") {
  RestView view = at_rest();
  CHECK(upkeep(view, TimePoint(160s) - 1ns).decision.action == Action::None);
  CHECK(upkeep(view, TimePoint(100s)).next == TimePoint(160s));
  CHECK(upkeep(view, TimePoint(160s)).decision == Decision{Action::EndInstance, Why::IdleTimeout});
  view.min_instances = 1;
  CHECK(upkeep(view, TimePoint(160s)).decision.action == Action::None);
  CHECK(upkeep(view, TimePoint(160s)).next == TimePoint(700s));
  view.busy = 1;  // one more than the minimum lives
  CHECK(upkeep(view, TimePoint(160s)).decision.action == Action::EndInstance);
}

TEST_CASE("a template ends after template_timeout without use, unless it is kept or in use") {
  RestView view = at_rest();
  view.idle = 0;
  CHECK(upkeep(view, TimePoint(100s)).next == TimePoint(700s));
  CHECK(upkeep(view, TimePoint(700s)).decision ==
        Decision{Action::EvictTemplate, Why::TemplateTimeout});
  view.busy = 1;
  CHECK(upkeep(view, TimePoint(700s)).decision.action == Action::None);
  view.busy = 0;
  view.queued = 1;
  CHECK(upkeep(view, TimePoint(700s)).decision.action == Action::None);
  view.queued = 0;
  view.keep = Keep::Template;
  CHECK(upkeep(view, TimePoint(700s)).decision.action == Action::None);
  CHECK(upkeep(view, TimePoint(700s)).next == TimePoint::max());
}

TEST_CASE("a retiring version ends what idles at once and serves what waits") {
  RestView view = at_rest();
  view.standing = Standing::Retiring;
  view.min_instances = 1;
  view.keep = Keep::Template;
  CHECK(upkeep(view, TimePoint(100s)).decision == Decision{Action::EndInstance, Why::Retired});
  view.idle = 0;
  CHECK(upkeep(view, TimePoint(100s)).decision == Decision{Action::EvictTemplate, Why::Retired});
  view.queued = 1;
  CHECK(upkeep(view, TimePoint(100s)).decision.action == Action::None);
}

TEST_CASE("the estimated wait is what the whole node would need") {
  CHECK(estimated_wait({.queued = 10, .mean_run = 100ms, .tokens = 2}) == 500ms);
  CHECK(estimated_wait({.queued = 10, .mean_run = 100ms, .threads = 2, .tokens = 2}) == 1s);
  CHECK(estimated_wait({.queued = 10, .mean_run = 100ms, .max_instances = 1, .tokens = 2}) == 1s);
  CHECK(estimated_wait({.queued = 0, .mean_run = 1h, .tokens = 2}) == 0s);
  CHECK(estimated_wait({.queued = 10, .tokens = 2}) == 0s);
  CHECK(retry_after(0s) == 1s);
  CHECK(retry_after(1001ms) == 2s);
  CHECK(retry_after(1h) == 60s);
}

TEST_CASE("the back-off doubles from half a second to a minute") {
  CHECK(back_off(1) == 500ms);
  CHECK(back_off(2) == 1s);
  CHECK(back_off(7) == 32s);
  CHECK(back_off(8) == 60s);
  CHECK(back_off(4'000'000'000U) == 60s);
}

TEST_CASE("what is waited for never ends where everybody who holds it waits in the circle") {
  using Holder = std::optional<std::size_t>;
  const Holder goes_on;
  const auto held_by = [](std::vector<Holder> holders) { return HeldUp{std::move(holders)}; };
  const auto stuck = [](const std::vector<HeldUp>& waiting) { return never_ends(waiting, 0); };
  const Holder first = 0;
  const Holder second = 1;
  const Holder third = 2;
  CHECK(stuck({held_by({first})}));                             // itself
  CHECK(stuck({held_by({second, second}), held_by({first})}));  // around
  CHECK_FALSE(stuck({held_by({goes_on})}));                     // somebody else
  CHECK_FALSE(stuck({held_by({first, goes_on})}));              // one of them ends
  CHECK_FALSE(stuck({held_by({second}), held_by({first, third}), held_by({goes_on})}));
  CHECK(stuck({held_by({second}), held_by({second}), held_by({goes_on})}));  // behind a circle
  CHECK(stuck({held_by({})}));                                               // nobody ever lets go
}

}  // namespace mayfly
