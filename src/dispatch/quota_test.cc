// What the processes of one owner may hold together.
#include <memory>
#include <string>

#include "core/caller_reason.h"
#include "core/reason.h"
#include "dispatch/dispatcher.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

// Functions whose template holds 20 MiB and each instance 5, of an owner who may hold `limit`.
struct QuotaNode : TestNode {
  explicit QuotaNode(Bytes limit, std::uint32_t cores = 4)
      : TestNode({.cores = cores, .memory = mib(1000)}), team(shared(limit)) {}

  static std::shared_ptr<MemoryShare> shared(Bytes limit) {
    return std::make_shared<MemoryShare>(MemoryShare{.limit = limit});
  }
  std::shared_ptr<const VersionRuntime> function(std::uint64_t id,
                                                 std::shared_ptr<MemoryShare> owner) {
    VersionRuntime made = runtime(id);
    made.share = std::move(owner);
    made.template_bytes = mib(20);
    made.instance_bytes = mib(5);
    spawner.script(made.label) = {.run = 10ms, .template_bytes = mib(20), .instance_bytes = mib(5)};
    return share(std::move(made));
  }
  std::shared_ptr<const VersionRuntime> function(std::uint64_t id) { return function(id, team); }
  std::shared_ptr<Pending> served(const std::shared_ptr<const VersionRuntime>& version) {
    auto pending = call(version);
    run_for(20ms);
    return pending;
  }
  std::string complaint(const Pending& pending) const {
    REQUIRE(pending.reason() == reason::kQuotaExceeded);
    return pending.outcome->reply.error().message;
  }

  std::shared_ptr<MemoryShare> team;
};

}  // namespace

TEST_CASE("what an owner's processes hold is counted, and given back") {
  QuotaNode node(mib(100));
  const auto version = node.function(1);
  CHECK(node.served(version)->ok());
  CHECK(node.team->used == mib(25));
  node.dispatcher.evict(version->key);
  node.run_for(10ms);
  CHECK(node.team->used == Bytes{});
}

TEST_CASE("over the quota the owner's own idle processes make room, and no other's") {
  QuotaNode node(mib(30));
  const auto other = node.function(9, QuotaNode::shared({}));
  CHECK(node.served(other)->ok());
  CHECK(node.served(node.function(1))->ok());
  CHECK(node.served(node.function(2))->ok());  // 50 MiB with what function 1 holds
  CHECK(node.team->used == mib(25));
  CHECK_FALSE(node.version("f1@1").has_value());
  CHECK(node.version("f9@1")->idle == 1);
}

TEST_CASE("who finds no room within the quota is refused at once, and others are served") {
  QuotaNode node(mib(29));  // not even without the template of the other
  const auto busy = node.call(node.function(1));
  node.run_for(1ms);
  const auto refused = node.predict(node.function(2));
  CHECK(node.complaint(*refused).starts_with("memory: f2@1 "));
  const auto other = node.predict(node.function(9, QuotaNode::shared(mib(30))));
  node.run_for(20ms);
  CHECK(other->ok());
  CHECK(busy->ok());
  CHECK(node.served(node.function(2))->ok());
}

TEST_CASE("within the quota a version waits for the instances that it has") {
  QuotaNode node(mib(30));  // a template and two instances
  const auto version = node.function(1);
  CHECK(node.served(version)->ok());
  std::vector<std::shared_ptr<Pending>> calls;
  for (int i = 0; i < 4; ++i) calls.push_back(node.call(version));
  node.run_for(1ms);
  CHECK(node.version("f1@1")->running == 2);
  node.run_for(50ms);
  for (const auto& call : calls) CHECK(call->ok());
}

TEST_CASE("whoever waits within a quota is served when an instance ends, however it ends") {
  QuotaNode node(mib(25));  // a template and one instance
  const auto version = node.function(1);
  CHECK(node.served(version)->ok());
  node.spawner.script("f1@1").fate = Fate::Hangs;
  const auto hangs = node.call(version, 50ms);
  node.run_for(1ms);
  node.spawner.script("f1@1").fate = Fate::Replies;
  const auto waits = node.call(version);
  node.run_for(40ms);
  CHECK_FALSE(waits->done());
  node.run_for(100ms);
  CHECK(hangs->reason() == reason::kDeadlineExceeded);
  CHECK(waits->ok());
}

TEST_CASE("instances that serve once make room for the next within a quota") {
  QuotaNode node(mib(25));
  VersionRuntime made = *node.function(1);
  made.isolation = Isolation::Request;
  const auto version = TestNode::share(made);
  std::vector<std::shared_ptr<Pending>> calls;
  for (int i = 0; i < 3; ++i) calls.push_back(node.call(version));
  node.run_for(100ms);
  for (const auto& call : calls) CHECK(call->ok());
}

TEST_CASE("who waits for his quota is in no other project's way") {
  QuotaNode node(mib(25));
  const auto version = node.function(1);
  CHECK(node.served(version)->ok());
  node.spawner.script("f1@1").fate = Fate::Hangs;
  const auto hangs = node.call(version);
  const auto waits = node.call(version);
  node.run_for(1ms);
  for (std::uint64_t id = 10; id < 14; ++id)
    CHECK(node.served(node.function(id, QuotaNode::shared(mib(30))))->ok());
  CHECK_FALSE(waits->done());
  hangs->client.cancel();
  waits->client.cancel();
  node.run_for(1ms);
}

TEST_CASE("what can never fit the quota is refused, and a quota that is lifted holds nobody") {
  QuotaNode node(mib(24));
  const auto version = node.function(1);
  CHECK(node.complaint(*node.predict(version)).find("24MiB") != std::string::npos);
  node.team->limit = {};
  CHECK(node.served(version)->ok());
}

TEST_CASE("instances that nobody waits for do not end their owner's others") {
  QuotaNode node(mib(30));
  CHECK(node.served(node.function(1))->ok());
  node.settings.min_instances = 1;
  node.dispatcher.serve(node.function(2), std::make_shared<const FunctionSettings>(node.settings));
  node.run_for(3s);
  CHECK(node.version("f1@1")->idle == 1);
  CHECK(node.version("f2@1")->idle == 0);
}

TEST_CASE("guests of the owner go first, and make room for nobody but him") {
  QuotaNode node(mib(29));
  VersionRuntime made = *node.function(1);
  made.rank = Rank::Guest;
  const auto guest = node.call(TestNode::share(made));
  node.run_for(1ms);
  const auto caller = node.call(node.function(2));
  node.run_for(20ms);
  CHECK(guest->reason() == reason::kMemoryPressure);
  CHECK(caller->ok());
}

}  // namespace mayfly
