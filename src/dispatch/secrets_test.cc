// What a version knows, and when it learns that it has changed.
#include <memory>
#include <string>
#include <vector>

#include "core/reason.h"
#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using namespace std::chrono_literals;

struct Vault {
  std::string value = "old";
  bool lost = false;
  std::size_t reads = 0;
};

Task<Result<Secrets>> read_vault(std::shared_ptr<Vault> vault) {
  ++vault->reads;
  if (vault->lost) co_return fail(Code::FailedPrecondition, "the secret KEY: it is not set");
  auto secrets = std::make_shared<std::vector<Secret>>();
  secrets->push_back({.name = "KEY", .value = SecretBytes(vault->value)});
  co_return secrets;
}

std::shared_ptr<const VersionRuntime> with_secret(const TestNode& node,
                                                  const std::shared_ptr<Vault>& vault,
                                                  std::uint64_t function = 1) {
  VersionRuntime runtime = node.runtime(function);
  runtime.secret_names = {"KEY"};
  runtime.secrets = [vault] { return read_vault(vault); };
  return TestNode::share(std::move(runtime));
}

std::string_view given(const FakeTemplate& tmpl) {
  return tmpl.spec().secrets->front().value.view();
}

TEST_CASE("a secret's new value is in every template that is built from then on") {
  TestNode node;
  const auto vault = std::make_shared<Vault>();
  const auto version = with_secret(node, vault);
  const auto other = TestNode::share(node.runtime(2));
  node.spawner.script("f1@1").run = 10ms;
  const auto first = node.predict(version);
  (void)node.predict(other);
  node.run_for(10ms);
  CHECK(first->ok());
  REQUIRE(node.spawner.templates().size() == 2);
  CHECK(given(*node.spawner.templates().at(0)) == "old");
  const auto in_use = node.predict(version);
  vault->value = "new";
  node.dispatcher.renew("team", "KEY");
  node.dispatcher.renew("default", "OTHER");
  node.loop.poll();
  CHECK(node.spawner.templates().size() == 2);

  node.dispatcher.renew("default", "KEY");
  node.loop.poll();
  CHECK(node.spawner.instances("f1@1").size() == 1);  // it finishes what it has
  CHECK(node.spawner.instances("f2@1").size() == 1);
  const auto next = node.predict(version);
  node.run_for(10ms);
  CHECK(in_use->ok());
  node.run_for(20ms);
  CHECK(next->ok());
  CHECK(next->outcome->tier == StartTier::Cold);
  REQUIRE(node.spawner.templates().size() == 2);
  CHECK(given(*node.spawner.templates().at(1)) == "new");
  CHECK(node.spawner.instances("f1@1").size() == 1);  // the old one has gone
}

TEST_CASE("requests that wait while a secret changes get a template of the new value") {
  TestNode node;
  const auto vault = std::make_shared<Vault>();
  const auto version = with_secret(node, vault);
  node.spawner.script("f1@1").build = 10ms;
  const auto waiting = node.predict(version);
  vault->value = "new";
  node.dispatcher.renew("default", "KEY");
  node.run_for(30ms);
  CHECK(waiting->ok());
  CHECK(vault->reads == 2);
  REQUIRE(node.spawner.templates().size() == 1);
  CHECK(given(*node.spawner.templates().at(0)) == "new");
}

TEST_CASE("a version whose secret is gone does not start, says why, and starts once it is set") {
  TestNode node;
  const auto vault = std::make_shared<Vault>(Vault{.value = "old", .lost = true, .reads = 0});
  const auto version = with_secret(node, vault);
  const auto refused = node.predict(version);
  REQUIRE(refused->done());
  CHECK(refused->reason() == reason::kStartFailed);
  CHECK(refused->outcome->reply.error().message.contains("the secret KEY"));
  vault->lost = false;
  node.dispatcher.renew("default", "KEY");  // no pause is waited for
  CHECK(node.predict(version)->ok());
}

}  // namespace
}  // namespace mayfly
