// Requests of one turn that an instance gets together, and that none of them suffers for it.
#include <algorithm>
#include <csignal>
#include <memory>
#include <vector>

#include "core/reason.h"
#include "dispatch/dispatcher.h"
#include "dispatch/policy.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kShort = 40us;

using Calls = std::vector<std::shared_ptr<Pending>>;

// A function with an idle instance whose runs are known to be short.
struct BurstNode : TestNode {
  explicit BurstNode(std::uint32_t cores = 2, Duration run = kShort)
      : TestNode({.cores = cores, .memory = mib(1000)}), model(share(runtime(1))) {
    warm(run);
  }
  void warm(Duration run) {
    script().run = run;
    const auto first = predict(model);
    advance(run);
    REQUIRE(first->ok());
  }
  Script& script() { return spawner.script("f1@1"); }
  // Of one turn.
  Calls calls(std::size_t count) {
    Calls made;
    for (std::size_t i = 0; i < count; ++i) made.push_back(call(model));
    loop.poll();
    return made;
  }
  // A burst of four that never ends by itself; what runs elsewhere later replies.
  Calls hanging_burst() {
    script().fate = Fate::Hangs;
    Calls made = calls(4);
    REQUIRE(instance().burst() == 4);
    script().fate = Fate::Replies;
    return made;
  }
  FakeInstance& instance(std::size_t index = 0) { return *spawner.instances().at(index); }
  std::shared_ptr<const VersionRuntime> model;
};

}  // namespace

TEST_CASE("a burst is no longer than its members can wait for each other") {
  struct Case {
    std::uint32_t held;
    std::uint32_t others;
    Duration mean_run;
    bool joins;
  };
  for (const Case& c : std::vector<Case>{{1, 0, 0us, false},
                                         {1, 0, 100us, true},
                                         {1, 0, 101us, false},
                                         {4, 0, 40us, true},
                                         {5, 0, 40us, false},
                                         {1, 1, 25us, true},
                                         {1, 1, 26us, false},
                                         {4, 3, 10us, true},
                                         {5, 3, 10us, false}}) {
    CAPTURE(c.held);
    CAPTURE(c.mean_run.count());
    CHECK(joins_burst({.held = c.held, .others = c.others, .mean_run = c.mean_run}) == c.joins);
  }
}

TEST_CASE("short requests of one turn go to one instance together") {
  BurstNode node;
  const Calls calls = node.calls(4);
  CHECK(node.spawner.instances().size() == 1);
  CHECK(node.instance().burst() == 4);
  CHECK(node.version("f1@1")->queued == 0);
  CHECK(node.decided(Action::Dispatch, Why::JoinsBurst) == 3);
  node.advance(kShort);
  for (const auto& call : calls) {
    REQUIRE(call->ok());
    CHECK(call->outcome->tier == StartTier::Hot);
    CHECK(call->outcome->instance == 1);
  }
  CHECK(node.spawner.forks() == 1);
  CHECK(node.dispatcher.status().node.tokens_used == 0);
}

TEST_CASE("what was handed over together shares its time and processor time equally") {
  BurstNode node;
  const Calls calls = node.calls(4);
  node.advance(kShort);
  Duration cpu{};
  for (const auto& call : calls) {
    CHECK(call->outcome->timing.run == kShort / 4);
    CHECK(call->outcome->timing.cpu == kShort);  // the fake counts its script's run for each
    cpu += call->outcome->timing.cpu;
  }
  CHECK(node.instance().cpu() == cpu + kShort);  // and that of the first call
}

TEST_CASE("no request joins where the run is unknown or long") {
  TestNode unknown({.cores = 1, .memory = mib(1000)});
  const auto version = TestNode::share(unknown.runtime(1));
  unknown.spawner.script("f1@1").run = kShort;
  unknown.call(version);
  unknown.call(version);
  unknown.loop.poll();
  CHECK(unknown.spawner.instances().at(0)->burst() == 1);  // nor a fork's first request
  CHECK(unknown.version("f1@1")->queued == 1);
  unknown.run_for(1ms, 10us);

  BurstNode slow(1, 101us);
  slow.calls(2);
  CHECK(slow.instance().burst() == 1);
  CHECK(slow.version("f1@1")->queued == 1);
}

TEST_CASE("with isolation = request nothing is shared") {
  TestNode node({.cores = 1, .memory = mib(1000)});
  VersionRuntime runtime = node.runtime(1);
  runtime.isolation = Isolation::Request;
  const auto version = TestNode::share(std::move(runtime));
  node.spawner.script("f1@1").run = kShort;
  node.predict(version);
  node.advance(kShort);
  const auto first = node.call(version);
  const auto second = node.call(version);
  node.loop.poll();
  CHECK(node.spawner.instances().at(0)->burst() == 1);
  node.run_for(1ms, 10us);
  CHECK(first->ok());
  CHECK(second->ok());
  CHECK(first->outcome->instance != second->outcome->instance);
}

TEST_CASE("a request too large for a part of the region goes elsewhere") {
  BurstNode node(1);
  const auto first = node.call(node.model);
  const auto large = node.call(node.model, 30s, kLane + 1);
  const auto small = node.call(node.model);
  node.loop.poll();
  CHECK(node.instance().burst() == 1);
  CHECK(node.version("f1@1")->queued == 2);  // the small one does not overtake
  node.run_for(1ms, 10us);
  CHECK(large->ok());
  CHECK(small->ok());
}

TEST_CASE("another idle instance is woken for what is worth it") {
  BurstNode node(2, 20us);
  node.script().run = 1ms;
  node.calls(1);
  node.calls(1);  // alone in its turn: a second instance
  node.advance(1ms);
  REQUIRE(node.version("f1@1")->idle == 2);
  // The mean has gone up with those two; short runs bring it down again.
  node.script().run = 20us;
  for (int i = 0; i < 60; ++i) {
    node.calls(1);
    node.advance(20us);
  }
  REQUIRE(node.version("f1@1")->mean_run < 25us);
  node.calls(3);
  std::vector<std::size_t> bursts = {node.instance(0).burst(), node.instance(1).burst()};
  std::ranges::sort(bursts);
  CHECK(bursts == std::vector<std::size_t>{1, 2});
}

TEST_CASE("a crash costs the oldest of a burst only") {
  BurstNode node(1);
  const Calls calls = node.hanging_burst();
  node.instance().exit({.signal = SIGSEGV});
  node.run_for(1ms, 10us);
  CHECK(calls[0]->reason() == reason::kInstanceCrashed);
  for (std::size_t i = 1; i < calls.size(); ++i) {
    REQUIRE(calls[i]->ok());
    CHECK(calls[i]->outcome->instance != calls[0]->outcome->instance);
    CHECK(calls[i - 1]->ended <= calls[i]->ended);
  }
}

TEST_CASE("what a crashing instance had answered stays answered") {
  BurstNode node(1);
  const Calls calls = node.hanging_burst();
  node.instance().reply_unrung();
  node.instance().exit({.signal = SIGSEGV});
  node.run_for(1ms, 10us);
  CHECK(calls[0]->ok());
  CHECK(calls[1]->reason() == reason::kInstanceCrashed);
  CHECK(calls[2]->ok());
  CHECK(calls[3]->ok());
}

TEST_CASE("a deadline of a later member ends only itself") {
  BurstNode node(1);
  node.script().fate = Fate::Hangs;
  const auto first = node.call(node.model);
  const auto hasty = node.call(node.model, 1ms);
  const auto last = node.call(node.model);
  node.loop.poll();
  REQUIRE(node.instance().burst() == 3);
  node.advance(1ms);
  CHECK(hasty->reason() == reason::kDeadlineExceeded);
  CHECK_FALSE(node.instance().killed());
  CHECK_FALSE(first->done());
  node.instance().reply();
  node.script().fate = Fate::Replies;
  node.run_for(1ms, 10us);
  CHECK(first->ok());
  CHECK(last->ok());
  CHECK(node.spawner.forks() == 1);
}

TEST_CASE("a client that leaves a burst takes nobody with it") {
  BurstNode node(1);
  const Calls calls = node.hanging_burst();
  calls[2]->client.cancel();
  node.loop.poll();
  CHECK(calls[2]->reason() == reason::kClientGone);
  CHECK_FALSE(node.instance().killed());
  node.instance().reply();
  node.run_for(1ms, 10us);
  for (const std::size_t i : {0U, 1U, 3U}) CHECK(calls[i]->ok());
}

TEST_CASE("a deadline of the one that runs ends the instance; the others run elsewhere") {
  BurstNode node(1);
  node.script().fate = Fate::Hangs;
  const auto hasty = node.call(node.model, 1ms);
  const auto second = node.call(node.model);
  const auto third = node.call(node.model);
  node.loop.poll();
  REQUIRE(node.instance().burst() == 3);
  node.script().fate = Fate::Replies;
  node.advance(1ms);
  CHECK(hasty->reason() == reason::kDeadlineExceeded);
  node.run_for(1ms, 10us);
  CHECK(second->ok());
  CHECK(third->ok());
  CHECK(second->outcome->instance != hasty->outcome->instance);
  CHECK(node.decided(Action::EndInstance, Why::Deadline) == 1);
}

TEST_CASE("nobody waits behind a burst that turns out slow, and order is kept") {
  BurstNode node;
  const Calls calls = node.hanging_burst();
  node.advance(kSlowBurst - 1us);
  CHECK(node.instance().burst() == 4);
  node.advance(1us);
  CHECK(node.instance().burst() == 1);
  const auto late = node.call(node.model);
  node.run_for(1ms, 10us);
  CHECK_FALSE(calls[0]->done());
  CHECK_FALSE(node.instance().killed());
  for (std::size_t i = 1; i < calls.size(); ++i) {
    REQUIRE(calls[i]->ok());
    CHECK(calls[i]->ended <= late->ended);
  }
  node.instance().reply();
  node.loop.poll();
  CHECK(calls[0]->ok());
}

TEST_CASE("an instance that never tells of its last reply is ended, its replies count") {
  BurstNode node;
  const Calls calls = node.hanging_burst();
  for (int i = 0; i < 4; ++i) node.instance().reply_unrung();
  node.advance(kSlowBurst);
  for (const auto& call : calls) CHECK(call->ok());
  node.advance(200ms);
  CHECK(node.decided(Action::EndInstance, Why::BadReply) == 1);
  node.loop.poll();
  CHECK(node.spawner.instances().empty());
}

}  // namespace mayfly
