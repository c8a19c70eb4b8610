#include "serving/shadows.h"

#include <string>
#include <utility>
#include <vector>

#include "serving/testing/shadow_rig.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE("a copy runs once its caller is answered, and is recorded as a shadow's") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("team/f");
  auto taken = rig.copy(f);
  rig.settle();
  CHECK(rig.node.spawner.forks() == 0);
  rig.answer(*std::move(taken));
  rig.settle();
  CHECK(rig.result(f).agreed == 1);
  std::vector<InvocationRecord> records;
  const auto keep = [&](const InvocationRecord& record) -> Status {
    records.push_back(record);
    return {};
  };
  REQUIRE(for_each_record(rig.root / "ledger", {}, keep).has_value());
  REQUIRE(records.size() == 1);
  CHECK(records[0].caller == kShadowCaller);
  CHECK(records[0].project == "team");
  CHECK(records[0].version.value == 2);
}

TEST_CASE("however many and slow the copies of one project, those of another run") {
  ShadowRig rig;
  const ServingRef slow = rig.deploy("aa/f");
  const ServingRef other = rig.deploy("bb/f");
  rig.script("aa/f").fate = Fate::Hangs;
  rig.ask(slow, 100);
  rig.settle();
  rig.ask(other, 10);
  rig.settle();
  CHECK(rig.result(other).compared == 10);
  CHECK(rig.result(other).dropped == 0);
  CHECK(rig.result(slow).compared == 0);
  CHECK(rig.result(slow).dropped == 100 - Shadows::kWaiting);
  CHECK(rig.node.version("aa/f@2-shadow")->running == 1);  // one of a project
}

TEST_CASE("requests whose callers wait yet take no place of those that are answered") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("f");
  std::vector<Shadows::Copy> unanswered;
  for (std::size_t i = 0; i < 2 * Shadows::kWaiting; ++i) unanswered.push_back(*rig.copy(f));
  rig.ask(f);
  rig.settle();
  CHECK(rig.result(f).compared == 1);
  CHECK(rig.result(f).dropped == 0);
}

TEST_CASE("copies run for a few projects at a time, who take turns") {
  ShadowRig rig;
  std::vector<ServingRef> busy;
  for (std::size_t i = 0; i < Shadows::kRunning; ++i) {
    const std::string name = std::string(2, static_cast<char>('a' + i)) + "/f";
    busy.push_back(rig.deploy(name));
    rig.script(name).run = 1s;
    rig.ask(busy.back(), 5);
  }
  const ServingRef last = rig.deploy("zz/f");
  rig.ask(last, 2);
  rig.run_for(500ms);
  CHECK(rig.node.spawner.instances().size() == Shadows::kRunning);
  CHECK(rig.result(last).compared == 0);
  rig.run_for(1s);  // the first runs have ended
  CHECK(rig.result(last).compared == 1);
  rig.run_for(1s);
  CHECK(rig.result(last).compared == 2);
  for (const ServingRef& one : busy) CHECK(rig.result(one).dropped == 0);
}

TEST_CASE("no project's copies hold more memory than is left to others") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("aa/f");
  const ServingRef other = rig.deploy("bb/f");
  constexpr std::uint64_t kLarge = Shadows::kLargest.count / 120 * 120;
  constexpr std::size_t kFit = Shadows::kMemory.count / Shadows::kLargest.count;
  const auto fill = [&](const ServingRef& of) {
    std::vector<Shadows::Copy> held;
    while (auto taken = rig.copy(of, kLarge)) held.push_back(*std::move(taken));
    return held;
  };
  {
    const auto held = fill(f);
    CHECK(held.size() == kFit / 2);
    CHECK(fill(other).size() == kFit / 4);
    CHECK(rig.result(f).dropped == 1);
    CHECK(rig.result(other).dropped == 1);
    CHECK(rig.copy(other).has_value());
  }
  CHECK(fill(f).size() == kFit / 2);  // all of it was given back
}

TEST_CASE("small copies count for more than their bytes, and what is too large is not copied") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("f");
  std::vector<Shadows::Copy> held;
  while (auto taken = rig.copy(f)) held.push_back(*std::move(taken));
  CHECK(held.size() == Shadows::kMemory.count / kInlineRequest / 2);
  held.clear();
  CHECK_FALSE(rig.copy(f, Shadows::kLargest.count + 120).has_value());
  CHECK(rig.result(f).dropped == 2);
}

TEST_CASE("copies wait for a core that callers leave, and not for long") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("f");
  rig.node.spawner.script("f900@1").run = 3s;
  const auto version = TestNode::share(rig.node.runtime(900));
  const auto callers = std::vector{rig.node.call(version), rig.node.call(version)};
  rig.settle();
  rig.ask(f);
  rig.run_for(2s);
  CHECK(rig.result(f).compared == 0);
  rig.run_for(2s);
  CHECK(callers[0]->ok());
  CHECK(rig.result(f).compared == 1);

  rig.node.spawner.script("f900@1").run = 20s;
  const auto long_ones = std::vector{rig.node.call(version), rig.node.call(version)};
  rig.settle();
  rig.ask(f, 3);
  rig.run_for(Shadows::kPatience + 100ms);
  CHECK(rig.result(f).compared == 1);
  CHECK(rig.result(f).dropped == 3);
}

TEST_CASE("a deleted function is forgotten, whatever of it comes afterwards") {
  ShadowRig rig;
  const ServingRef f = rig.deploy("f");
  const FunctionId id = f->runtime->key.function;
  rig.script("f").fate = Fate::Hangs;
  rig.ask(f, 3);
  auto unanswered = rig.copy(f);
  rig.settle();
  rig.remove(*f);
  CHECK_FALSE(rig.copy(f, 2 * Shadows::kLargest.count).has_value());
  rig.answer(*std::move(unanswered));
  rig.run_for(6s);  // longer than a run may take
  CHECK(rig.shadows.comparisons(id).empty());
}
