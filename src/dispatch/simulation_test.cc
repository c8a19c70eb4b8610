// Whole nodes in virtual time: floods, bursts, memory pressure, thousands of functions.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "core/reason.h"
#include "dispatch/dispatcher.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;
using Calls = std::vector<std::shared_ptr<Pending>>;

std::size_t succeeded(const Calls& calls) {
  return static_cast<std::size_t>(
      std::ranges::count_if(calls, [](const auto& call) { return call->ok(); }));
}

Duration longest_queue(const Calls& calls) {
  Duration longest{};
  for (const auto& call : calls) longest = std::max(longest, call->outcome->timing.queue);
  return longest;
}

}  // namespace

TEST_CASE("a flood of one function delays another's trickle by a run or two") {
  TestNode node;
  node.settings.queue_limit = 100'000;
  const auto flooded = TestNode::share(node.runtime(1));
  const auto trickling = TestNode::share(node.runtime(2));
  node.spawner.script("f1@1").run = 10ms;
  node.spawner.script("f2@1").run = 10ms;
  node.predict(flooded);
  node.predict(trickling);
  node.run_for(20ms);

  Calls flood;
  Calls trickle;
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 50; ++i) flood.push_back(node.call(flooded, 10min));
    trickle.push_back(node.call(trickling, 1s));
    node.run_for(50ms);
  }
  CHECK(succeeded(trickle) == trickle.size());
  CHECK(longest_queue(trickle) <= 20ms);
  // The flood has what is left of 2 cores over 2 s: 400 runs less 40.
  CHECK(succeeded(flood) >= 340);
  CHECK(succeeded(flood) <= 362);
}

TEST_CASE("two floods share the cores by time, whatever a run costs") {
  TestNode node;
  node.settings.queue_limit = 100'000;
  const auto slow = TestNode::share(node.runtime(1));
  const auto fast = TestNode::share(node.runtime(2));
  node.spawner.script("f1@1").run = 40ms;
  node.spawner.script("f2@1").run = 10ms;
  Calls slow_calls;
  Calls fast_calls;
  for (int i = 0; i < 1000; ++i) slow_calls.push_back(node.call(slow, 10min));
  for (int i = 0; i < 1000; ++i) fast_calls.push_back(node.call(fast, 10min));
  node.run_for(4s);
  const auto slow_done = static_cast<double>(succeeded(slow_calls));
  const auto fast_done = static_cast<double>(succeeded(fast_calls));
  CHECK(slow_done * 40 + fast_done * 10 >= 7800);  // no core idles
  CHECK(fast_done / slow_done == doctest::Approx(4).epsilon(0.15));
}

TEST_CASE("calls that hang on every core delay another function by the node's patience only") {
  TestNode node;
  const auto hanging = TestNode::share(node.runtime(1));
  const auto other = TestNode::share(node.runtime(2));
  node.spawner.script("f1@1").fate = Fate::Hangs;
  node.spawner.script("f2@1").run = 10ms;
  for (int i = 0; i < 10; ++i) node.call(hanging, 30s);
  node.loop.poll();
  CHECK(node.dispatcher.status().node.tokens_used == 2);
  const auto call = node.call(other, 10s);
  node.run_for(520ms);
  CHECK(call->ok());
  CHECK(call->outcome->timing.queue == 500ms);
  CHECK(node.decided(Action::Fork, Why::Starved) == 1);
  CHECK(node.spawner.instances("f1@1").size() == 2);
}

TEST_CASE("a burst is served by at most as many instances as cores, and every call ends") {
  TestNode node({.cores = 4, .memory = mib(1000)});
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1") = {.build = 30ms, .start = 1ms, .run = 5ms};
  Calls calls;
  for (int i = 0; i < 1000; ++i) calls.push_back(node.call(version));
  node.run_for(1300ms);
  CHECK(succeeded(calls) == calls.size());
  CHECK(node.spawner.forks() == 4);
  CHECK(node.spawner.templates_started() == 1);
  node.run_for(12min, 1s);
  CHECK(node.dispatcher.status().versions.empty());
}

TEST_CASE("under memory pressure the least valuable idle processes go first") {
  // Room for two versions: 2 × (20 + 4) and one more template does not fit.
  TestNode node({.cores = 2, .memory = mib(60)});
  std::vector<std::shared_ptr<const VersionRuntime>> versions;
  for (std::uint64_t f = 1; f <= 3; ++f)
    versions.push_back(TestNode::share([&] {
      VersionRuntime runtime = node.runtime(f);
      runtime.template_bytes = mib(20);
      runtime.instance_bytes = mib(4);
      return runtime;
    }()));
  for (int i = 0; i < 20; ++i) CHECK(node.predict(versions[0])->ok());
  CHECK(node.predict(versions[1])->ok());
  CHECK(node.predict(versions[2])->ok());
  CHECK(node.version("f1@1").has_value());
  CHECK_FALSE(node.version("f2@1").has_value());  // called once, by now worth less than f1
  CHECK(node.version("f3@1").has_value());
  CHECK(node.dispatcher.status().node.memory_used <= mib(60));
  CHECK(node.decided(Action::EvictTemplate, Why::MemoryPressure) == 1);
}

TEST_CASE("relieve ends idle processes until enough is free, kept templates last") {
  TestNode node;
  const auto kept = TestNode::share(node.runtime(1));
  node.dispatcher.serve(
      kept, std::make_shared<const FunctionSettings>(FunctionSettings{.keep_warm = true}));
  CHECK(node.predict(TestNode::share(node.runtime(2)))->ok());
  CHECK(node.dispatcher.relieve(mib(10)) >= mib(10));
  CHECK(node.version("f1@1")->tmpl.state == TemplateState::Ready);
  CHECK(node.dispatcher.relieve(gib(1)) >= mib(20));
  node.loop.poll();
  CHECK(node.spawner.templates().empty());
  node.run_for(5s, 100ms);
  CHECK(node.spawner.templates().empty());  // not brought back while memory is short
  node.run_for(6s, 100ms);
  CHECK(node.spawner.templates().size() == 1);
}

TEST_CASE("a flood that fills the memory yields to a function that has nothing") {
  TestNode node({.cores = 4, .memory = mib(60)});
  node.settings.queue_limit = 100'000;
  VersionRuntime greedy = node.runtime(1);
  greedy.template_bytes = mib(20);
  greedy.instance_bytes = mib(10);
  node.spawner.script("f1@1") = {.run = 20ms, .instance_bytes = mib(10)};
  VersionRuntime modest = node.runtime(2);
  modest.template_bytes = mib(20);
  modest.instance_bytes = mib(1);
  node.spawner.script("f2@1").run = 5ms;
  const auto flooding = TestNode::share(std::move(greedy));
  Calls flood;
  for (int i = 0; i < 200; ++i) flood.push_back(node.call(flooding, 10min));
  node.run_for(10ms);
  CHECK(node.spawner.instances("f1@1").size() == 4);
  const auto starved = node.call(TestNode::share(std::move(modest)), 5s);
  node.run_for(60ms);
  CHECK(starved->ok());
  CHECK(node.decided(Action::EndInstance, Why::YieldMemory) >= 1);
  CHECK(node.dispatcher.status().node.functions_waiting_for_memory == 0);
  node.run_for(4s);
  CHECK(succeeded(flood) == flood.size());
}

TEST_CASE("many versions that start at once take turns at building") {
  TestNode node({.cores = 2, .memory = gib(10)});
  Calls calls;
  for (std::uint64_t f = 1; f <= 20; ++f) {
    node.spawner.script("f" + std::to_string(f) + "@1").build = 10ms;
    calls.push_back(node.call(TestNode::share(node.runtime(f))));
  }
  node.loop.poll();
  CHECK(node.dispatcher.status().node.builds == 2);
  CHECK(node.spawner.templates().size() == 2);
  node.run_for(110ms);
  CHECK(succeeded(calls) == calls.size());
}

TEST_CASE("failing starts of one function leave others alone") {
  TestNode node;
  const auto broken = TestNode::share(node.runtime(1));
  const auto sound = TestNode::share(node.runtime(2));
  node.spawner.script("f1@1") = {.build = 5ms};
  node.spawner.script("f1@1").template_fails = Error{Code::Internal, "bad weights"};
  node.spawner.script("f2@1").run = 1ms;
  Calls bad;
  Calls good;
  for (int i = 0; i < 2000; ++i) {
    bad.push_back(node.call(broken));
    good.push_back(node.call(sound));
    node.advance(5ms);
  }
  node.run_for(10ms);
  CHECK(succeeded(good) == good.size());
  CHECK(succeeded(bad) == 0);
  for (const auto& call : bad) CHECK(call->reason() == reason::kStartFailed);
  CHECK(node.version("f1@1")->tmpl.failures == 5);  // 0.5 + 1 + 2 + 4 s, in 10 s
}

TEST_CASE("ten thousand functions called once leave nothing behind") {
  TestNode node({.cores = 2, .memory = mib(200)});
  for (std::uint64_t f = 1; f <= 10'000; ++f) {
    const auto call = node.predict(TestNode::share(node.runtime(f)));
    REQUIRE(call->ok());
  }
  CHECK(node.dispatcher.status().node.memory_used <= mib(200));
  CHECK(node.dispatcher.status().versions.size() < 20);
  node.run_for(12min, 1s);
  CHECK(node.dispatcher.status().versions.empty());
  CHECK(node.dispatcher.status().node.memory_used == Bytes{});
}

}  // namespace mayfly
