// Aliases, splits and the way back.
#include <atomic>
#include <cstdlib>
#include <thread>

#include "core/reason.h"
#include "registry/registry.h"
#include "registry/testing/registry_fixture.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

struct ThreeVersions : RegistryFixture {
  ThreeVersions() {
    for (const char* content : {"a", "b", "c"}) deploy("fraud", content);
  }
  FunctionTable::Entry entry() const { return registry->snapshot()->find("fraud"); }
  std::uint32_t number(std::string_view ref) const {
    const auto found = registry->snapshot()->resolve(parse_model_ref(ref).value());
    return found ? found->version->number.value : 0;
  }
  auto split(std::string_view json) {
    return registry->split(name_of("fraud"), parse_traffic(json).value(), alice);
  }
  auto move(std::string_view alias, std::optional<VersionNumber> from,
            std::optional<VersionNumber> to) {
    return registry->move_alias(name_of("fraud"), {std::string(alias), from, to}, alice);
  }
  std::string last_kind() { return registry->history(name_of("fraud"), 1).value().at(0).kind; }
};

}  // namespace

TEST_CASE("champion and previous follow deploys") {
  ThreeVersions at;
  CHECK(at.number("fraud@champion") == 3);
  CHECK(at.number("fraud@previous") == 2);
  CHECK(at.number("fraud@stable") == 0);
  RegistryFixture one;
  one.deploy("fraud", "a");
  CHECK_FALSE(one.registry->snapshot()->resolve(parse_model_ref("fraud@previous").value()));
}

TEST_CASE("an alias moves only from where its mover believes it to be") {
  ThreeVersions at;
  CHECK(at.move("stable", std::nullopt, VersionNumber{2}).has_value());
  CHECK(at.number("fraud@stable") == 2);
  CHECK(at.last_kind() == "alias");
  CHECK(at.move("stable", std::nullopt, VersionNumber{3}).error().reason == reason::kConflict);
  CHECK(at.move("stable", VersionNumber{1}, VersionNumber{3}).error().reason == reason::kConflict);
  CHECK(at.move("stable", VersionNumber{2}, VersionNumber{3}).has_value());
  CHECK(at.move("stable", VersionNumber{3}, VersionNumber{9}).error().reason ==
        reason::kUnknownVersion);
  at.reopen();
  CHECK(at.number("fraud@stable") == 3);
  CHECK(at.move("stable", VersionNumber{3}, std::nullopt).has_value());
  CHECK(at.number("fraud@stable") == 0);
  CHECK(at.move("champion", VersionNumber{3}, VersionNumber{1}).has_value());
  CHECK(at.number("fraud") == 1);
  CHECK(at.number("fraud@previous") == 3);
  CHECK_FALSE(at.move("champion", VersionNumber{1}, std::nullopt).has_value());
  CHECK_FALSE(at.move("previous", VersionNumber{3}, VersionNumber{2}).has_value());
  CHECK_FALSE(at.move("7", std::nullopt, VersionNumber{2}).has_value());
}

TEST_CASE("of many movers who saw the same state, one wins") {
  ThreeVersions at;
  std::atomic<int> won = 0;
  {
    std::vector<std::jthread> movers;
    for (std::uint32_t i = 0; i < 8; ++i) {
      movers.emplace_back([&, i] {
        won += at.move("stable", std::nullopt, VersionNumber{1 + i % 3}).has_value() ? 1 : 0;
      });
    }
  }
  CHECK(won == 1);
}

TEST_CASE("a split keeps the champion while it has a share") {
  ThreeVersions at;
  REQUIRE(at.split(R"({"weights":{"2":60,"3":40},"shadows":{"1":10}})").has_value());
  CHECK(at.number("fraud") == 3);
  CHECK(at.last_kind() == "traffic");
  at.reopen();
  CHECK(at.entry()->routing->traffic.weights.size() == 2);
  CHECK(at.entry()->routing->traffic.shadows.front().version.value == 1);
  REQUIRE(at.split(R"({"weights":{"1":30,"2":70}})").has_value());
  CHECK(at.number("fraud") == 2);
  CHECK(at.number("fraud@previous") == 3);
  REQUIRE(at.split(R"({"weights":{"1":100}})").has_value());
  CHECK(at.number("fraud") == 1);
  CHECK_FALSE(at.entry()->routing->traffic.split());
  CHECK(at.split(R"({"weights":{"9":100}})").error().reason == reason::kUnknownVersion);
  CHECK(at.split(R"({"shadows":{"9":1}})").error().reason == reason::kUnknownVersion);
  CHECK(at.split(R"({"shadows":{"1":1}})").error().reason == reason::kInvalidTraffic);
}

TEST_CASE("rolling back ends a split first, then returns to the previous version") {
  ThreeVersions at;
  REQUIRE(at.split(R"({"weights":{"2":5,"3":95}})").has_value());
  REQUIRE(at.registry->roll_back(name_of("fraud"), at.alice).has_value());
  CHECK(at.number("fraud") == 3);
  CHECK_FALSE(at.entry()->routing->traffic.split());
  CHECK(at.number("fraud@previous") == 2);
  REQUIRE(at.registry->roll_back(name_of("fraud"), at.alice).has_value());
  CHECK(at.number("fraud") == 2);
  CHECK(at.number("fraud@previous") == 3);
  CHECK(at.last_kind() == "point");
  RegistryFixture one;
  one.deploy("fraud", "a");
  CHECK(one.registry->roll_back(name_of("fraud"), one.alice).error().reason == reason::kConflict);
}

TEST_CASE("a rollback does not stop at shadows: the broken champion goes at once") {
  ThreeVersions at;
  REQUIRE(at.split(R"({"shadows":{"1":10}})").has_value());
  REQUIRE(at.registry->roll_back(name_of("fraud"), at.alice).has_value());
  CHECK(at.number("fraud") == 2);
  CHECK(at.entry()->routing->traffic.shadows.empty());
}

TEST_CASE("who splits what he has seen does not undo what happened meanwhile") {
  ThreeVersions at;
  const auto seen = at.entry();
  const Traffic canary = parse_traffic(R"({"weights":{"1":5,"3":95}})").value();
  REQUIRE(at.registry->roll_back(name_of("fraud"), at.alice).has_value());
  CHECK(at.registry->split(name_of("fraud"), canary, at.alice, seen.get()).error().reason ==
        reason::kConflict);
  CHECK(at.number("fraud") == 2);
  CHECK(at.registry->split(name_of("fraud"), canary, at.alice, at.entry().get()).has_value());
}

TEST_CASE("aliases are bounded") {
  ThreeVersions at;
  for (std::size_t i = 1; i < kMaxAliases; ++i)  // `previous` is one
    REQUIRE(at.move("a" + std::to_string(i), std::nullopt, VersionNumber{1}).has_value());
  CHECK(at.move("more", std::nullopt, VersionNumber{1}).error().reason == reason::kInvalidTraffic);
}

TEST_CASE("a deploy gives its version the traffic that was asked for") {
  RegistryFixture f;
  const auto deploy = [&](const char* content, std::uint32_t percent) {
    return f.registry->deploy(
        {.function = name_of("fraud"), .manifest = manifest_with(content), .traffic = {percent}},
        f.alice);
  };
  REQUIRE(deploy("a", 0).has_value());  // the first: somebody must serve
  const auto entry = [&] { return f.registry->snapshot()->find("fraud"); };
  CHECK(entry()->current.value == 1);
  REQUIRE(deploy("b", 0).has_value());
  CHECK(entry()->current.value == 1);
  REQUIRE(deploy("c", 5).has_value());
  CHECK(entry()->current.value == 1);
  CHECK(entry()->routing->traffic.weights == std::vector<VersionShare>{{{1}, 95}, {{3}, 5}});
  CHECK(deploy("d", 5).error().reason == reason::kConflict);
  CHECK(entry()->versions.size() == 3);
  REQUIRE(deploy("e", 100).has_value());
  CHECK(entry()->current.value == 4);
  CHECK_FALSE(entry()->routing->traffic.split());
}

TEST_CASE("what traffic or an alias names is never collected") {
  ThreeVersions at;
  at.deploy("fraud", "d");
  REQUIRE(at.registry->configure(name_of("fraud"), R"({"keep_versions":1})", at.alice).has_value());
  REQUIRE(at.move("stable", std::nullopt, VersionNumber{1}).has_value());
  REQUIRE(at.split(R"({"shadows":{"2":1}})").has_value());
  CHECK(at.registry->superseded_versions().empty());  // 3 is the previous one
  REQUIRE(at.move("stable", VersionNumber{1}, std::nullopt).has_value());
  const auto listed = at.registry->superseded_versions();
  REQUIRE(listed.size() == 1);
  CHECK(listed.front().number.value == 1);
  REQUIRE(at.move("stable", std::nullopt, VersionNumber{1}).has_value());
  CHECK(at.registry->retire(listed, at.alice)->empty());
}

TEST_CASE("whoever moves traffic from what it saw does not move it from anything else") {
  ThreeVersions at;
  const auto seen = at.entry();
  REQUIRE(at.split(R"({"weights":{"2":50,"3":50}})").has_value());
  const auto late = at.registry->point(name_of("fraud"), {1}, at.alice, seen.get());
  CHECK(late.error().reason == reason::kConflict);
  CHECK(at.entry()->routing->traffic.split());
  CHECK(at.registry->point(name_of("fraud"), {1}, at.alice, at.entry().get()).has_value());
  CHECK(at.number("fraud") == 1);
}

TEST_CASE("rollouts under way and notes about them are kept") {
  ThreeVersions at;
  const std::int64_t id = at.entry()->id;
  REQUIRE(at.registry->save_rollout(id, R"({"a":1})").has_value());
  REQUIRE(at.registry->save_rollout(id, R"({"a":2})").has_value());
  REQUIRE(at.registry->note(name_of("fraud"), "rollout", R"({"what":"hold"})", at.alice));
  at.reopen();
  const auto rows = at.registry->rollouts().value();
  REQUIRE(rows.size() == 1);
  CHECK(rows[0].name == "fraud");
  CHECK(rows[0].json == R"({"a":2})");
  const auto notes = at.registry->history(name_of("fraud"), 10, "rollout").value();
  REQUIRE(notes.size() == 1);
  CHECK(notes[0].who == "alice");
  CHECK(at.registry->history(name_of("fraud"), 10).value().size() == 4);
  REQUIRE(at.registry->remove(name_of("fraud"), at.alice).has_value());
  CHECK(at.registry->rollouts()->empty());  // of a function that is gone nobody asks
}
