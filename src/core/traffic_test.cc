#include "core/traffic.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <string>

#include "core/reason.h"

using namespace mayfly;

namespace {

std::array<int, 8> spread(const std::vector<VersionShare>& weights, int keys) {
  std::array<int, 8> counts{};
  for (int i = 0; i < keys; ++i) ++counts.at(choose(weights, traffic_key(std::to_string(i))).value);
  return counts;
}

}  // namespace

TEST_CASE("a split is spread by its weights") {
  const auto counts = spread({{{3}, 95}, {{4}, 4}, {{5}, 1}}, 100'000);
  // Five standard deviations of a binomial.
  CHECK(std::abs(counts[3] - 95'000) < 345);
  CHECK(std::abs(counts[4] - 4'000) < 310);
  CHECK(std::abs(counts[5] - 1'000) < 158);
}

TEST_CASE("no key leaves a version that gained, or goes to one that lost") {
  const std::vector<VersionShare> before = {{{1}, 50}, {{2}, 40}, {{3}, 10}};
  const std::vector<VersionShare> after = {{{1}, 50}, {{2}, 15}, {{3}, 35}};
  int moved = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t key = traffic_key("user-" + std::to_string(i));
    const VersionNumber was = choose(before, key);
    const VersionNumber is = choose(after, key);
    if (was == is) continue;
    ++moved;
    CHECK(was.value != 3);
    CHECK(is.value != 2);
  }
  // A quarter of all would be the least; nothing near a reshuffle (62 %).
  CHECK(moved > 4'000);
  CHECK(moved < 7'500);
}

TEST_CASE("what a shadow sees is its share, whatever the split does") {
  int copies = 0;
  int both = 0;
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t key = traffic_key(std::to_string(i));
    if (!shadows({{5}, 10}, key)) continue;
    ++copies;
    both += choose({{{3}, 50}, {{4}, 50}}, key).value == 4 ? 1 : 0;
  }
  CHECK(std::abs(copies - 10'000) < 480);
  CHECK(std::abs(both - copies / 2) < 260);
  CHECK(shadows({{5}, 100}, traffic_key("any")));
}

TEST_CASE("traffic is checked where it comes in, and says what is wrong") {
  const auto good = parse_traffic(R"({"weights":{"4":5,"3":95},"shadows":{"5":10}})");
  REQUIRE(good.has_value());
  CHECK(good->weights.front().version.value == 3);
  CHECK(parse_traffic(to_json(*good)) == *good);
  CHECK(parse_traffic("{}")->split() == false);
  struct Case {
    const char* json;
    const char* says;
  };
  for (const Case& bad : {Case{R"({"weights":{"3":95,"4":4}})", "sum to 99"},
                          Case{R"({"weights":{"3":101}})", "from 1 to 100"},
                          Case{R"({"weights":{"3":0,"4":100}})", "from 1 to 100"},
                          Case{R"({"weights":{"3":99.5,"4":0.5}})", "from 1 to 100"},
                          Case{R"({"weights":{"3":-5,"4":105}})", "from 1 to 100"},
                          Case{R"({"weights":{"x":100}})", "version number"},
                          Case{R"({"weights":{"3":50,"03":50}})", "twice"},
                          Case{R"({"weights":[100]})", "not an object"},
                          Case{R"({"weights":{"3":100},"shadows":{"3":5}})", "cannot shadow"},
                          Case{R"({"sticky_header":"a b"})", "name of a header"},
                          Case{R"({"sticky":"X"})", "unknown key"}, Case{"[]", ""}}) {
    CAPTURE(bad.json);
    const auto parsed = parse_traffic(bad.json);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().message.find(bad.says) != std::string::npos);
  }
}

TEST_CASE("routing comes back as it was, aliases by name") {
  Routing routing;
  routing.traffic.shadows = {{{5}, 10}};
  routing.aliases = {{"previous", {2}}, {"stable", {3}}};
  CHECK(parse_routing(to_json(routing)) == routing);
  routing.waiting = true;
  CHECK(parse_routing(to_json(routing)) == routing);
  CHECK(routing.names({5}));
  CHECK(routing.names({3}));
  CHECK_FALSE(routing.names({4}));
  CHECK(routing.find("stable")->version.value == 3);
  CHECK(routing.find("nothing") == nullptr);
  for (const char* bad : {R"({"aliases":{"3":3}})", R"({"aliases":{"a":"3"}})",
                          R"({"aliases":{"a":0}})", R"({"aliases":[]})", R"({"x":1})"}) {
    CHECK_FALSE(parse_routing(bad).has_value());
  }
}
