// Starting a version before requests are switched to it, and guests that take only what is spare.
#include "core/reason.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

Task<void> await_warm(Dispatcher& dispatcher, std::shared_ptr<const VersionRuntime> version,
                      std::shared_ptr<std::optional<Status>> outcome) {
  *outcome =
      co_await dispatcher.warm(std::move(version), std::make_shared<const FunctionSettings>(), 0);
}

std::shared_ptr<std::optional<Status>> warm(TestNode& node,
                                            std::shared_ptr<const VersionRuntime> version) {
  auto outcome = std::make_shared<std::optional<Status>>();
  node.loop.spawn(await_warm(node.dispatcher, std::move(version), outcome));
  node.loop.poll();
  return outcome;
}

std::shared_ptr<const VersionRuntime> guest(const TestNode& node, std::uint64_t function) {
  VersionRuntime runtime = node.runtime(function);
  runtime.rank = Rank::Guest;
  return TestNode::share(std::move(runtime));
}

}  // namespace

TEST_CASE("a warmed version has its template before anybody asks, and idles out again") {
  TestNode node;
  const auto version = TestNode::share(node.runtime(1));
  node.spawner.script("f1@1").build = 50ms;
  const auto warmed = warm(node, version);
  const auto beside = warm(node, version);
  CHECK_FALSE(warmed->has_value());
  node.run_for(60ms);
  REQUIRE(warmed->has_value());
  CHECK((*warmed)->has_value());
  CHECK(beside->has_value());
  CHECK(node.spawner.templates_started() == 1);
  CHECK(warm(node, version)->has_value());  // at once
  CHECK(node.predict(version)->outcome->tier == StartTier::Template);
  node.run_for(12min, 1s);
  CHECK(node.dispatcher.status().versions.empty());
}

TEST_CASE("warming says why it cannot be") {
  TestNode node;
  node.spawner.script("f1@1").template_fails = refuse(reason::kStartFailed, "broken").error();
  const auto failed = warm(node, TestNode::share(node.runtime(1)));
  REQUIRE(failed->has_value());
  CHECK((*failed)->error().reason == reason::kStartFailed);
  CHECK((*warm(node, TestNode::share(node.runtime(1))))->error().reason == reason::kStartFailed);

  TestNode small({.cores = 2, .memory = mib(10)});
  CHECK((*warm(small, TestNode::share(small.runtime(2))))->error().reason ==
        reason::kMemoryPressure);
  small.drain({});
  const auto late = warm(small, TestNode::share(small.runtime(3)));
  REQUIRE(late->has_value());
  CHECK((*late)->error().reason == reason::kDraining);
}

TEST_CASE("a version that is deleted while it is warmed answers") {
  TestNode node;
  node.spawner.script("f1@1").build = 1s;
  const auto warmed = warm(node, TestNode::share(node.runtime(1)));
  node.dispatcher.retire(FunctionId{1});
  node.loop.poll();
  REQUIRE(warmed->has_value());
  CHECK_FALSE((*warmed)->has_value());
}

TEST_CASE("a guest's run leaves every core to callers") {
  TestNode node({.cores = 1, .memory = mib(1000)});
  node.spawner.script("f9@1").run = 1h;
  const auto copy = node.call(guest(node, 9), 2h);
  node.loop.poll();
  CHECK(node.version("f9@1")->running == 1);
  CHECK(node.dispatcher.status().node.tokens_used == 0);
  CHECK(node.predict(TestNode::share(node.runtime(1)))->ok());
  CHECK_FALSE(copy->done());
}

TEST_CASE("a guest starts only where a core is free, and is never in the way of callers") {
  TestNode node({.cores = 1, .memory = mib(1000)});
  node.spawner.script("f1@1").run = 10s;
  const auto caller = node.call(TestNode::share(node.runtime(1)));
  node.loop.poll();
  CHECK_FALSE(node.dispatcher.has_room_for_guests());
  // Its template is built, but it gets no instance, and waits for none.
  CHECK(node.predict(guest(node, 9))->reason() == reason::kNodeBusy);
  const auto patient = node.call(TestNode::share(node.runtime(2)));
  node.run_for(1s, 10ms);
  CHECK(patient->ok());  // starved callers share the core, guests or not
  node.run_for(10s, 10ms);
  CHECK(caller->ok());
}

TEST_CASE("a caller that needs memory gets a guest's, even of one that runs") {
  TestNode node({.cores = 2, .memory = mib(38)});
  node.spawner.script("f9@1").run = 1h;
  const auto copy = node.call(guest(node, 9), 2h);
  node.loop.poll();
  CHECK(node.version("f9@1")->running == 1);
  CHECK(node.predict(TestNode::share(node.runtime(1)))->ok());
  node.loop.poll();
  CHECK(copy->done());
  CHECK_FALSE(copy->ok());
}

TEST_CASE("a guest ends nothing to get memory: it is refused") {
  TestNode node({.cores = 2, .memory = mib(50)});
  CHECK(node.predict(TestNode::share(node.runtime(1)))->ok());
  const auto before = node.version("f1@1")->idle;
  CHECK(node.predict(guest(node, 9))->reason() == reason::kMemoryPressure);
  CHECK(node.version("f1@1")->idle == before);
}
