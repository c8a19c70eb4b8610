// Environment templates in virtual time: kept while they are in use, given to the next version that
// starts, ended last.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "dispatch/environment_slot.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

Task<Result<std::string>> seen(std::string imports) { co_return imports; }

VersionRuntime packaged(const TestNode& node, std::uint64_t function,
                        const std::string& imports = "numpy", const std::string& key = "team/e") {
  VersionRuntime runtime = node.runtime(function);
  runtime.kind = RuntimeKind::Python;
  runtime.environment = "/environments/e";
  runtime.environment_key = key;
  runtime.environment_options = "{}";
  runtime.imports = [imports] { return seen(imports); };
  return runtime;
}

std::shared_ptr<const VersionRuntime> version_of(const TestNode& node, std::uint64_t function,
                                                 const std::string& imports = "numpy",
                                                 const std::string& key = "team/e") {
  return TestNode::share(packaged(node, function, imports, key));
}

constexpr const char* kLabel = "environment:e";
constexpr Duration kPrepared = kAfterStart + 1ms;  // after a start, there is one

EnvironmentsStatus environments(const TestNode& node) {
  return node.dispatcher.status().node.environments;
}

TEST_CASE("the first start of an environment is cold, another function's finds its template") {
  TestNode node;
  const auto first = node.predict(version_of(node, 1));
  REQUIRE(first->ok());
  CHECK(first->outcome->tier == StartTier::Cold);
  node.advance(kAfterStart - 1ms);
  CHECK_MESSAGE(node.spawner.environments_started() == 0, "nothing beside who is being started");
  node.advance(2ms);
  CHECK(environments(node).ready == 1);
  const auto second = version_of(node, 2);
  CHECK(node.dispatcher.next_start(*second) == StartTier::Environment);

  const auto other = node.predict(second);
  REQUIRE(other->ok());
  CHECK(other->outcome->tier == StartTier::Environment);
  CHECK(node.spawner.given() == 1);
  CHECK(node.spawner.templates_started() == 1);
  CHECK(node.dispatcher.next_start(*second) == StartTier::Hot);
  node.advance(kPrepared);
  CHECK_MESSAGE(environments(node).ready == 1, "another is prepared once it was given");
}

TEST_CASE("an environment template is of one key only") {
  TestNode node;
  (void)node.predict(version_of(node, 1));
  node.advance(kPrepared);
  const auto stranger = version_of(node, 2, "numpy", "other/e");
  CHECK(node.dispatcher.next_start(*stranger) == StartTier::Cold);
  const auto call = node.predict(stranger);
  CHECK(call->outcome->tier == StartTier::Cold);
  CHECK(node.spawner.given() == 0);
  CHECK(node.predict(TestNode::share(node.runtime(3)))->outcome->tier == StartTier::Cold);
}

TEST_CASE("it imports what every version of it was seen to import") {
  TestNode node;
  (void)node.predict(version_of(node, 1, "numpy\nscipy"));
  node.advance(kPrepared);
  (void)node.predict(version_of(node, 2, "numpy\npandas"));
  node.advance(kPrepared);
  REQUIRE(node.spawner.environments().size() == 1);
  const EnvironmentSpec& spec = node.spawner.environments().front()->spec();
  CHECK(spec.imports == "numpy\npandas\nscipy");
  CHECK(spec.environment == "/environments/e");
  CHECK_MESSAGE(spec.cpu_weight < 100, "others go first");
}

TEST_CASE("lists of imports are cut between names") {
  CHECK(merged_imports("a\nb\n", "b\nc") == "a\nb\nc");
  CHECK(merged_imports("alpha\nbeta", "gamma", 11) == "alpha\nbeta");
  CHECK(merged_imports("alpha", "") == "alpha");
}

TEST_CASE("it is prepared only where a core is free and nobody waits") {
  const PrepareView free{.tokens = 2, .needed = mib(10), .memory = mib(100)};
  CHECK(may_prepare(free));
  PrepareView view = free;
  view.tokens_used = 2;
  CHECK_FALSE(may_prepare(view));
  view = free;
  view.waiting = 1;
  CHECK_FALSE(may_prepare(view));
  view = free;
  view.builds = 1;
  CHECK_FALSE(may_prepare(view));
  view = free;
  view.preparing = 1;
  CHECK_FALSE(may_prepare(view));
  view = free;
  view.memory_used = mib(91);
  CHECK_FALSE(may_prepare(view));
  view = free;
  view.quota = mib(20);
  view.quota_used = mib(11);
  CHECK_FALSE(may_prepare(view));

  TestNode node({.cores = 1, .memory = mib(1000)});
  node.spawner.script("f1@1").fate = Fate::Hangs;
  const auto call = node.call(version_of(node, 1));
  node.run_for(20ms);
  CHECK(node.spawner.environments_started() == 0);
  REQUIRE(node.spawner.instances().size() == 1);
  node.spawner.instances().front()->reply();
  node.run_for(kPrepared);
  CHECK(node.spawner.environments_started() == 1);
}

TEST_CASE("three first calls at once: one is given what waits, the others do not wait for it") {
  TestNode node({.cores = 4, .memory = mib(1000)});
  (void)node.predict(version_of(node, 1));
  node.advance(kPrepared);
  node.spawner.script(kLabel).build = 1s;
  for (const char* label : {"f2@1", "f3@1", "f4@1"}) node.spawner.script(label).build = 100ms;
  std::vector<std::shared_ptr<Pending>> calls;
  for (std::uint64_t function = 2; function < 5; ++function)
    calls.push_back(node.call(version_of(node, function)));
  node.run_for(150ms);
  std::size_t given = 0;
  for (const auto& call : calls) {
    REQUIRE(call->ok());
    given += call->outcome->tier == StartTier::Environment ? 1 : 0;
  }
  CHECK(given == 1);
  node.run_for(2s, 10ms);
  CHECK(environments(node).ready == 1);
}

TEST_CASE("it ends an hour after the last version of it had processes") {
  TestNode node;
  node.settings.idle_timeout = 10s;
  node.settings.template_timeout = 20s;
  (void)node.predict(version_of(node, 1));
  node.run_for(30s, 1s);
  CHECK_FALSE(node.version("f1@1").has_value());
  CHECK(environments(node).ready == 1);
  node.run_for(50min, 1min);
  CHECK(environments(node).ready == 1);
  node.run_for(12min, 1min);
  CHECK(environments(node).ready == 0);
  CHECK(node.spawner.environments().empty());
  CHECK(node.dispatcher.status().node.memory_used == Bytes{});
}

TEST_CASE("it stays as long as a version of it has processes") {
  TestNode node;
  node.settings.idle_timeout = 10h;
  node.settings.template_timeout = 10h;
  (void)node.predict(version_of(node, 1));
  node.run_for(3h, 1min);
  CHECK(environments(node).ready == 1);
}

TEST_CASE("it ends with the last version of it") {
  TestNode node;
  const auto one = version_of(node, 1);
  const auto two = version_of(node, 2);
  (void)node.predict(one);
  (void)node.predict(two);
  node.advance(kPrepared);
  CHECK(environments(node).ready == 1);
  node.dispatcher.retire(one->key);
  node.advance(kPrepared);
  CHECK(environments(node).ready == 1);
  node.dispatcher.retire(two->key.function);
  node.advance(kPrepared);
  CHECK(environments(node).ready == 0);
  CHECK(node.spawner.environments().empty());
}

TEST_CASE("under memory pressure it goes after everything else that idles") {
  TestNode node({.cores = 2, .memory = mib(100)});
  (void)node.predict(version_of(node, 1));
  node.advance(kPrepared);
  const Bytes before = node.dispatcher.status().node.memory_used;
  CHECK(environments(node).memory == mib(20));
  (void)node.dispatcher.relieve(mib(1));
  node.advance(kPrepared);
  CHECK(environments(node).ready == 1);
  CHECK(node.dispatcher.status().node.memory_used < before);
  while (node.version("f1@1").has_value()) {
    CHECK(environments(node).ready == 1);
    REQUIRE(node.dispatcher.relieve(mib(1)).count > 0);
    node.advance(kPrepared);
  }
  CHECK(node.dispatcher.relieve(mib(1)) == mib(20));
  node.advance(kPrepared);
  CHECK(environments(node).ready == 0);
  CHECK_MESSAGE(environments(node).preparing == 0, "it does not come back at once");
  node.run_for(11s, 100ms);
  CHECK(environments(node).ready == 1);
}

TEST_CASE("a version that needs the memory of an environment template gets it") {
  TestNode node({.cores = 2, .memory = mib(60)});
  node.settings.idle_timeout = 1s;
  node.settings.template_timeout = 1s;
  (void)node.predict(version_of(node, 1));
  node.run_for(5s, 100ms);
  REQUIRE(environments(node).ready == 1);
  VersionRuntime large = node.runtime(2);
  large.template_bytes = mib(50);
  large.instance_bytes = mib(5);
  const auto call = node.predict(TestNode::share(std::move(large)));
  CHECK(call->ok());
  CHECK(environments(node).ready == 0);
}

TEST_CASE("the next call after its death is cold, and it comes back after a pause") {
  TestNode node;
  (void)node.predict(version_of(node, 1));
  node.advance(kPrepared);
  REQUIRE(node.spawner.environments().size() == 1);
  node.spawner.environments().front()->lose({.code = 0, .signal = 9});
  node.loop.poll();
  CHECK(node.predict(version_of(node, 2))->outcome->tier == StartTier::Cold);
  CHECK(environments(node).ready == 0);
  node.run_for(2s, 10ms);
  CHECK(environments(node).ready == 1);
}

TEST_CASE("a version that it does not suit is started without it, and counts no failure") {
  TestNode node;
  (void)node.predict(version_of(node, 1));
  node.advance(kPrepared);
  node.spawner.script("f2@1").unfit = Error{.code = Code::Aborted, .message = "its own numpy"};
  const auto version = version_of(node, 2);
  const auto call = node.predict(version);
  REQUIRE(call->ok());
  CHECK(call->outcome->tier == StartTier::Cold);
  CHECK(node.version("f2@1")->tmpl.failures == 0);
  node.advance(kPrepared);
  CHECK(environments(node).ready == 1);
  node.dispatcher.evict(version->key);
  node.advance(kPrepared);
  CHECK(node.dispatcher.next_start(*version) == StartTier::Cold);
  CHECK(node.predict(version)->outcome->tier == StartTier::Cold);
  CHECK(node.spawner.given() == 1);
}

TEST_CASE("a start that fails by the version's own fault is not tried twice") {
  TestNode node;
  (void)node.predict(version_of(node, 1));
  node.advance(kPrepared);
  node.spawner.script("f2@1").template_fails =
      Error{.code = Code::Unavailable, .message = "load() raised"};
  CHECK_FALSE(node.predict(version_of(node, 2))->ok());
  CHECK(node.spawner.templates_started() == 1);
}

TEST_CASE("a drained node has none") {
  TestNode node;
  (void)node.predict(version_of(node, 1));
  node.advance(kPrepared);
  REQUIRE(environments(node).ready == 1);
  node.drain(1s);
  node.run_for(1s, 10ms);
  CHECK(node.drained);
  CHECK(node.spawner.environments().empty());
}

}  // namespace
}  // namespace mayfly
