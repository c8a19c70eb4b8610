// The way of a call through the dispatcher: tiers, timing, bounds, settings, ends.
#include "dispatch/dispatcher.h"

#include <memory>
#include <string>
#include <vector>

#include "async/event.h"
#include "core/reason.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// A compiled folder that is being rebuilt.
struct Rebuild {
  explicit Rebuild(Loop& loop) : future(loop), promise(future.promise()) {}
  Future<Path> future;
  Promise<Path> promise;
};
Task<Result<Path>> wait_for(std::shared_ptr<Rebuild> rebuild) {
  co_return co_await rebuild->future;
}

Task<void> await_alone(Dispatcher& dispatcher, Call call) {
  (void)co_await dispatcher.predict(std::move(call));
}

}  // namespace

TEST_CASE("a function is cold, then hot, then at zero and forgotten") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1") = {.build = 100ms, .start = 1ms, .run = 10ms};

  const auto cold = node.call(version);
  node.run_for(200ms);
  REQUIRE(cold->ok());
  CHECK(cold->outcome->tier == StartTier::Cold);
  CHECK(cold->outcome->timing.queue == 0ms);
  CHECK(cold->outcome->timing.start == 101ms);
  CHECK(cold->outcome->timing.run == 10ms);
  CHECK(cold->outcome->timing.cpu == 10ms);
  CHECK(cold->outcome->peak_memory == mib(1));
  CHECK(cold->outcome->memory_limit == version->memory);
  CHECK(cold->outcome->instance == 1);

  const auto hot = node.call(version);
  node.run_for(20ms);
  REQUIRE(hot->ok());
  CHECK(hot->outcome->tier == StartTier::Hot);
  CHECK(hot->outcome->timing.start == 0ms);
  CHECK(hot->outcome->timing.cpu == 10ms);
  CHECK(hot->outcome->instance == 1);

  node.run_for(61s, 100ms);
  CHECK(node.spawner.instances().empty());
  CHECK(node.spawner.templates().size() == 1);
  const auto forked = node.call(version);
  node.run_for(20ms);
  REQUIRE(forked->ok());
  CHECK(forked->outcome->tier == StartTier::Template);
  CHECK(forked->outcome->timing.start == 1ms);
  CHECK(forked->outcome->instance == 2);

  node.run_for(11min, 1s);
  CHECK(node.spawner.templates().empty());
  CHECK(node.dispatcher.status().versions.empty());
  CHECK(node.dispatcher.status().node.memory_used == Bytes{});
  CHECK(node.decided(Action::EndInstance, Why::IdleTimeout) == 2);
  CHECK(node.decided(Action::EvictTemplate, Why::TemplateTimeout) == 1);
}

TEST_CASE("a version gets as many instances as it has concurrent calls and cores") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = 10ms;
  std::vector<std::shared_ptr<Pending>> calls;
  for (int i = 0; i < 6; ++i) calls.push_back(node.call(version));
  node.loop.poll();
  CHECK(node.spawner.instances().size() == 2);
  CHECK(node.version("f1@1")->queued == 4);
  node.run_for(30ms);
  for (const auto& call : calls) CHECK(call->ok());
  CHECK(node.spawner.forks() == 2);
  CHECK(calls[5]->outcome->tier == StartTier::Hot);
  CHECK(calls[5]->outcome->timing.queue == 20ms);
  CHECK(node.dispatcher.status().node.tokens_used == 0);
}

TEST_CASE("a version with more threads than cores takes the node for itself") {
  TestNode node;
  VersionRuntime threaded = node.runtime(1);
  threaded.threads = 8;
  const auto big = TestNode::share(std::move(threaded));
  const auto small = TestNode::share(node.runtime(2));
  node.spawner.script("f1@1").run = 10ms;
  node.spawner.script("f2@1").run = 10ms;
  node.predict(small);
  node.run_for(20ms);
  const auto first = node.predict(big);
  CHECK(node.dispatcher.status().node.tokens_used == 2);
  const auto second = node.predict(small);
  CHECK_FALSE(second->done());
  node.run_for(10ms);
  CHECK(first->ok());
  CHECK(node.dispatcher.status().node.tokens_used == 1);
  node.run_for(10ms);
  CHECK(second->ok());
}

TEST_CASE("isolation = request: every call gets a fresh fork that dies after it") {
  TestNode node;
  VersionRuntime runtime = node.runtime(1);
  runtime.isolation = Isolation::Request;
  const auto version = TestNode::share(std::move(runtime));
  for (std::uint64_t i = 1; i <= 3; ++i) {
    const auto call = node.predict(version);
    REQUIRE(call->ok());
    CHECK(call->outcome->instance == i);
    CHECK(call->outcome->tier == (i == 1 ? StartTier::Cold : StartTier::Template));
    CHECK(node.spawner.instances().empty());
  }
  CHECK(node.decided(Action::EndInstance, Why::FreshPerRequest) == 3);
}

TEST_CASE("a full queue answers at once, with the time it will take") {
  TestNode node;
  node.settings.queue_limit = 2;
  node.settings.max_instances = 1;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = 4s;
  node.call(version);
  node.run_for(5s, 10ms);
  const auto running = node.predict(version);
  const auto first = node.predict(version);
  const auto second = node.predict(version);
  const auto refused = node.predict(version);
  CHECK_FALSE(second->done());
  CHECK(refused->reason() == reason::kQueueFull);
  CHECK(refused->outcome->tier == StartTier::None);
  CHECK(refused->outcome->retry_after == 8s);
  node.run_for(13s, 10ms);
  CHECK(second->ok());
}

TEST_CASE("queue_limit = 0 forbids waiting for others, not starting") {
  TestNode node;
  node.settings.queue_limit = 0;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1") = {.build = 50ms, .run = 10ms};
  const auto cold = node.predict(version);
  const auto beside = node.predict(version);
  CHECK(beside->reason() == reason::kQueueFull);
  node.run_for(50ms);
  const auto forked = node.predict(version);  // a core and the template are free
  CHECK_FALSE(forked->done());
  const auto third = node.predict(version);
  CHECK(third->reason() == reason::kQueueFull);
  node.run_for(10ms);
  CHECK(cold->ok());
  CHECK(forked->ok());
}

TEST_CASE("max_concurrency bounds what is in flight") {
  TestNode node;
  node.settings.max_concurrency = 1;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = 10ms;
  const auto first = node.predict(version);
  CHECK(node.predict(version)->reason() == reason::kQueueFull);
  node.run_for(10ms);
  CHECK(first->ok());
  const auto next = node.predict(version);
  node.run_for(10ms);
  CHECK(next->ok());
}

TEST_CASE("a hopeless deadline is answered at once, a passed one too") {
  TestNode node;
  node.settings.max_instances = 1;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = 1s;
  node.call(version);
  node.run_for(2s, 10ms);
  node.predict(version);
  for (int i = 0; i < 3; ++i) node.predict(version);
  const auto hopeless = node.finished(node.call(version, 2s));
  CHECK(hopeless->reason() == reason::kHopelessDeadline);
  const auto tight = node.finished(node.call(version, 3500ms));
  CHECK_FALSE(tight->done());
  CHECK(node.finished(node.call(version, 0s))->reason() == reason::kDeadlineExceeded);
  node.run_for(6s, 10ms);
}

TEST_CASE("a queued call that reaches its deadline is dropped, a running one killed") {
  TestNode node;
  node.settings.max_instances = 1;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").fate = Fate::Hangs;
  const auto running = node.finished(node.call(version, 100ms));
  const auto queued = node.finished(node.call(version, 50ms));
  const auto next = node.finished(node.call(version, 1s));
  FakeInstance* const first = node.spawner.instances().at(0);
  node.run_for(50ms);
  CHECK(queued->reason() == reason::kDeadlineExceeded);
  CHECK(queued->outcome->timing.queue == 50ms);
  CHECK(queued->outcome->instance == 0);
  CHECK_FALSE(first->killed());
  node.spawner.script("f1@1").fate = Fate::Replies;
  node.run_for(50ms);
  CHECK(running->reason() == reason::kDeadlineExceeded);
  CHECK(running->outcome->timing.run == 100ms);
  CHECK(running->outcome->instance == 1);
  CHECK(next->ok());  // another instance was forked at once
  CHECK(next->outcome->timing.queue == 100ms);
  CHECK(next->outcome->instance == 2);
  CHECK(node.spawner.instances().size() == 1);
}

TEST_CASE("a client that goes away frees its place or its instance") {
  TestNode node;
  node.settings.max_instances = 1;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").fate = Fate::Hangs;
  const auto running = node.predict(version);
  const auto queued = node.predict(version);
  queued->client.cancel();
  node.loop.poll();
  CHECK(queued->reason() == reason::kClientGone);
  CHECK(node.version("f1@1")->queued == 0);
  running->client.cancel();
  node.loop.poll();
  CHECK(running->reason() == reason::kClientGone);
  CHECK(node.spawner.instances().empty());
  CHECK(node.dispatcher.status().node.tokens_used == 0);
  CHECK(node.decided(Action::EndInstance, Why::ClientGone) == 1);
}

TEST_CASE("destroying the awaiting task frees its place and its instance") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").fate = Fate::Hangs;
  {
    Loop inner(node.clock);
    Call call{.version = version,
              .settings = std::make_shared<const FunctionSettings>(),
              .request = *RequestMemory::allocate(*RequestLayout::plan({}, {}), 0),
              .deadline = node.loop.now() + 10s};
    inner.spawn(await_alone(node.dispatcher, std::move(call)));
    node.loop.poll();
    CHECK(node.version("f1@1")->running == 1);
  }  // the loop destroys what it spawned
  node.loop.poll();
  CHECK(node.spawner.instances().empty());
}

TEST_CASE("timing of a cold call keeps waiting for a core apart from starting") {
  TestNode node({.cores = 1, .memory = mib(1000)});
  const auto hog = TestNode::share(node.runtime(1));
  const auto cold = TestNode::share(node.runtime(2));
  node.spawner.script("f1@1").run = 50ms;
  node.spawner.script("f2@1") = {.build = 20ms, .start = 2ms, .run = 5ms};
  node.predict(hog);
  const auto call = node.predict(cold);
  node.run_for(60ms);
  REQUIRE(call->ok());
  CHECK(call->outcome->tier == StartTier::Cold);
  CHECK(call->outcome->timing.start == 22ms);
  CHECK(call->outcome->timing.queue == 30ms);
  CHECK(call->outcome->timing.run == 5ms);
}

TEST_CASE("a compiled folder that must be rebuilt is waited for") {
  TestNode node;
  auto rebuild = std::make_shared<Rebuild>(node.loop);
  VersionRuntime runtime = node.runtime(1);
  runtime.artifact = [rebuild] { return wait_for(rebuild); };
  const auto call = node.predict(TestNode::share(std::move(runtime)));
  CHECK_FALSE(call->done());
  CHECK(node.version("f1@1")->tmpl.state == TemplateState::Building);
  node.advance(1s);
  rebuild->promise.set(Path("/compiled/again"));
  node.loop.poll();
  CHECK(call->ok());
  CHECK(node.spawner.templates().at(0)->spec().artifact == "/compiled/again");
}

TEST_CASE("a version evicted while its folder is rebuilt starts nothing when it is there") {
  TestNode node;
  auto rebuild = std::make_shared<Rebuild>(node.loop);
  VersionRuntime runtime = node.runtime(1);
  runtime.artifact = [rebuild] { return wait_for(rebuild); };
  const auto call = node.predict(TestNode::share(std::move(runtime)));
  call->client.cancel();
  node.dispatcher.evict(FunctionId{1});
  node.loop.poll();
  CHECK(node.dispatcher.status().versions.empty());
  rebuild->promise.set(Path("/compiled/again"));
  node.loop.poll();
  CHECK(node.spawner.templates_started() == 0);
}

TEST_CASE("serve keeps min_instances and the template, and settings apply at once") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.dispatcher.serve(version, std::make_shared<const FunctionSettings>());
  CHECK(node.dispatcher.status().versions.empty());  // nothing to keep costs nothing

  FunctionSettings settings{.min_instances = 2, .keep_warm = true};
  node.dispatcher.serve(version, std::make_shared<const FunctionSettings>(settings));
  node.loop.poll();
  CHECK(node.version("f1@1")->idle == 2);
  CHECK(node.decided(Action::Fork, Why::MinInstances) == 2);
  node.run_for(1h, 10s);
  CHECK(node.version("f1@1")->idle == 2);
  CHECK(node.predict(version)->outcome->tier == StartTier::Hot);

  node.spawner.instances().at(0)->exit({.signal = 9});  // replaced
  node.loop.poll();
  CHECK(node.version("f1@1")->idle == 2);

  settings.min_instances = 0;
  node.dispatcher.serve(version, std::make_shared<const FunctionSettings>(settings));
  node.run_for(2min, 1s);
  CHECK(node.version("f1@1")->idle == 0);
  CHECK(node.version("f1@1")->tmpl.state == TemplateState::Ready);
  settings.keep_warm = false;
  settings.template_timeout = 1s;
  node.dispatcher.serve(version, std::make_shared<const FunctionSettings>(settings));
  node.run_for(2s, 100ms);
  CHECK(node.dispatcher.status().versions.empty());
}

TEST_CASE("a deploy moves what is kept to the new version; the old one idles out") {
  TestNode node;
  const auto settings =
      std::make_shared<const FunctionSettings>(FunctionSettings{.min_instances = 1});
  node.dispatcher.serve(TestNode::share(node.runtime(1, 1)), settings);
  node.loop.poll();
  node.dispatcher.serve(TestNode::share(node.runtime(1, 2)), settings);
  node.loop.poll();
  CHECK(node.version("f1@1")->idle == 1);
  CHECK(node.version("f1@2")->idle == 1);
  node.run_for(11min, 1s);
  CHECK_FALSE(node.version("f1@1").has_value());
  CHECK(node.version("f1@2")->idle == 1);
}

TEST_CASE("max_instances = 1: the new version takes the place of the old one's idle instance") {
  TestNode node;
  node.settings.max_instances = 1;
  CHECK(node.predict(TestNode::share(node.runtime(1, 1)))->ok());
  CHECK(node.predict(TestNode::share(node.runtime(1, 2)))->ok());
  CHECK(node.spawner.instances("f1@1").empty());
  CHECK(node.spawner.instances("f1@2").size() == 1);
  CHECK(node.decided(Action::EndInstance, Why::SiblingIdle) == 1);
}

TEST_CASE("a retired function serves what it accepted and is gone") {
  TestNode node;
  node.settings.max_instances = 1;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = 10ms;
  const auto running = node.predict(version);
  const auto queued = node.predict(version);
  node.dispatcher.retire(FunctionId{1});
  node.run_for(20ms);
  CHECK(running->ok());
  CHECK(queued->ok());
  node.loop.poll();
  CHECK(node.dispatcher.status().versions.empty());
  CHECK(node.spawner.instances().empty());
  CHECK(node.spawner.templates().empty());
}

TEST_CASE("evict brings a function to zero; the busy end after their request") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = 10ms;
  const auto running = node.predict(version);
  const auto other = node.predict(version);
  node.run_for(10ms);
  const auto again = node.predict(version);
  CHECK(node.version("f1@1")->idle == 1);
  node.dispatcher.evict(version->key);
  node.loop.poll();
  CHECK(node.spawner.instances().size() == 1);
  CHECK(node.spawner.templates().empty());
  node.run_for(10ms);
  CHECK(again->ok());
  node.loop.poll();
  CHECK(node.dispatcher.status().versions.empty());
  const auto cold = node.predict(version);
  node.run_for(10ms);
  CHECK(cold->outcome->tier == StartTier::Cold);
}

TEST_CASE("what every call would get is known without one") {
  TestNode node({.cores = 1, .memory = mib(1000)});
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = 10ms;
  node.settings.queue_limit = 1;
  CHECK_FALSE(node.dispatcher.refusal(version->key));
  node.predict(version);
  CHECK_FALSE(node.dispatcher.refusal(version->key));
  node.predict(version);
  const auto full = node.dispatcher.refusal(version->key);
  REQUIRE(full);
  CHECK(full->reply.error().reason == reason::kQueueFull);
  CHECK(full->retry_after == 1s);
  node.run_for(20ms);
  CHECK_FALSE(node.dispatcher.refusal(version->key));
  node.drain(0ms);
  const auto drained = node.dispatcher.refusal(version->key);
  REQUIRE(drained);
  CHECK(drained->reply.error().reason == reason::kDraining);
}

TEST_CASE("a function asked to zero while it works gets there once nothing waits") {
  TestNode node({.cores = 1, .memory = mib(1000)});
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = 10ms;
  const auto running = node.predict(version);
  const auto waiting = node.predict(version);
  node.dispatcher.evict(FunctionId{1});
  CHECK(node.version("f1@1")->tmpl.state == TemplateState::Ready);  // the second needs it
  node.run_for(20ms);
  CHECK(running->ok());
  CHECK(waiting->ok());
  CHECK(node.spawner.instances().empty());
  CHECK(node.dispatcher.status().versions.empty());
  CHECK(node.predict(version)->outcome == std::nullopt);  // and the next call starts it again
  node.run_for(10ms);
  CHECK(node.version("f1@1")->idle == 1);
}

TEST_CASE("a call that knows newer settings brings them, one that knows older ones does not") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").run = 10ms;
  const auto with = [](std::uint32_t max) {
    return std::make_shared<const FunctionSettings>(FunctionSettings{.max_instances = max});
  };
  node.settings.max_instances = 1;
  const auto first = node.predict(version);
  const auto second = node.predict(version);
  CHECK(node.version("f1@1")->running == 1);
  node.settings.max_instances = 2;
  node.settings_sequence = 5;
  const auto third = node.predict(version);
  CHECK(node.version("f1@1")->running == 2);
  node.dispatcher.serve(version, with(1), 4);  // late
  node.settings.max_instances = 1;
  node.settings_sequence = 3;
  node.run_for(20ms);
  node.predict(version);
  node.predict(version);
  CHECK(node.version("f1@1")->running == 2);
  node.dispatcher.serve(version, with(1), 6);
  node.run_for(61s, 100ms);  // those that run are not ended for it
  node.predict(version);
  node.predict(version);
  CHECK(node.version("f1@1")->running == 1);
  for (const auto& call : {first, second, third}) CHECK(call->ok());
  node.run_for(100ms);
}

TEST_CASE("building a session after the fork is no processor time of the request") {
  TestNode node;
  VersionRuntime runtime = node.runtime(1);
  runtime.session_after_fork = true;
  const auto version = TestNode::share(std::move(runtime));
  node.spawner.script("f1@1") = {.start = 100ms, .start_cpu = 80ms, .run = 10ms};
  const auto call = node.call(version);
  node.run_for(120ms);
  REQUIRE(call->ok());
  CHECK(call->outcome->timing.start == 100ms);
  CHECK(call->outcome->timing.cpu == 10ms);
}

TEST_CASE("drain refuses new calls, finishes accepted ones, and fails the rest at its timeout") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  const auto stuck = TestNode::share(node.runtime(2));
  node.spawner.script("f1@1").run = 100ms;
  node.spawner.script("f2@1").fate = Fate::Hangs;
  const auto running = node.predict(version);
  const auto hanging = node.predict(stuck);
  const auto queued = node.predict(version);
  node.drain(1s);
  const auto late = node.predict(version);
  CHECK(late->reason() == reason::kDraining);
  CHECK(late->outcome->retry_after > 0s);
  node.run_for(500ms);
  CHECK(running->ok());
  CHECK(queued->ok());
  CHECK_FALSE(node.drained);
  node.run_for(600ms);
  CHECK(hanging->reason() == reason::kDraining);
  CHECK(node.drained);
  CHECK(node.spawner.instances().empty());
  CHECK(node.spawner.templates().empty());
  CHECK(node.dispatcher.status().versions.empty());
}

TEST_CASE("status tells what runs, what waits and why") {
  TestNode node;
  node.settings.max_instances = 1;
  const auto version = TestNode::share(node.runtime(7, 3));
  node.spawner.script("f7@3") = {.run = 10ms, .template_bytes = mib(40), .instance_bytes = mib(5)};
  node.predict(version);
  node.predict(version);
  const DispatchStatus status = node.dispatcher.status();
  REQUIRE(status.versions.size() == 1);
  const VersionStatus& entry = status.versions.front();
  CHECK(entry.label == "f7@3");
  CHECK(entry.running == 1);
  CHECK(entry.queued == 1);
  CHECK(status.node.queued == 1);
  CHECK(status.node.tokens == 2);
  CHECK(status.node.tokens_used == 1);
  CHECK(entry.tmpl.state == TemplateState::Ready);
  CHECK(entry.tmpl.bytes == mib(40));
  CHECK(entry.decisions.front().why == Why::MaxInstances);
  CHECK(entry.decisions.at(1).action == Action::Fork);
  CHECK(entry.decisions.at(2).action == Action::BuildTemplate);
  CHECK(entry.calls_per_second > 0);
  node.run_for(20ms);
  CHECK(node.version("f7@3")->memory == mib(45));
  CHECK(node.dispatcher.status().node.memory_used == mib(45));
}

}  // namespace mayfly
