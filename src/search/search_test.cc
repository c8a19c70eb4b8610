#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "search/halving.h"
#include "search/space.h"
#include "search/tpe.h"

#include <doctest/doctest.h>

namespace mayfly::search {
namespace {

constexpr double kFailed = std::numeric_limits<double>::quiet_NaN();

// A trial's loss: better with more of the resource, each trial with a floor of its own.
double loss_of(Work work) {
  const double floor = static_cast<double>((work.trial * 37) % 101) / 100;
  return floor + 1.0 / (1 + work.rung);
}

using Done = std::set<std::pair<std::uint32_t, std::uint32_t>>;

// Runs a search with `workers` at once, of whom `random` says who ends next.
template <typename Loss>
Done run(Halving& search, std::size_t workers, std::mt19937& random, Loss loss) {
  Done done;
  std::vector<Work> running;
  while (true) {
    while (running.size() < workers) {
      const auto work = search.next();
      if (!work) break;
      running.push_back(*work);
    }
    if (running.empty()) return done;
    std::swap(running[random() % running.size()], running.back());
    const Work work = running.back();
    running.pop_back();
    done.emplace(work.trial, work.rung);
    search.report({work, loss(work)});
  }
}

std::size_t count_at(const Done& done, std::uint32_t rung) {
  std::size_t count = 0;
  for (const auto& [trial, at] : done) count += at == rung ? 1 : 0;
  return count;
}

TEST_CASE("27 trials in three rungs: a third goes on, and the control to the end") {
  Halving search({});
  std::mt19937 random(1);
  const Done done = run(search, 1, random, loss_of);
  CHECK(search.finished());
  CHECK(count_at(done, 0) == 27);
  CHECK(count_at(done, 1) >= 9);
  CHECK(count_at(done, 1) <= 10);  // the control is beside the third
  CHECK(count_at(done, 2) >= 3);
  CHECK(count_at(done, 2) <= 5);
  for (const std::uint32_t rung : {0U, 1U, 2U}) CHECK(done.contains({0, rung}));
  REQUIRE(search.best().has_value());
  CHECK(search.best()->work.rung == 2);
}

TEST_CASE("who ends first changes nothing") {
  Halving alone({});
  std::mt19937 random(1);
  const Done expected = run(alone, 1, random, loss_of);
  for (unsigned seed = 2; seed < 40; ++seed) {
    CAPTURE(seed);
    Halving search({});
    std::mt19937 order(seed);
    CHECK(run(search, 1 + seed % 9, order, loss_of) == expected);
    CHECK(search.best()->work == alone.best()->work);
  }
}

TEST_CASE("the best trial is found when rungs rank as the end does") {
  Halving search({});
  std::mt19937 random(3);
  run(search, 4, random, loss_of);
  double least = 1;
  for (std::uint32_t trial = 0; trial < 27; ++trial) least = std::min(least, loss_of({trial, 2}));
  CHECK(search.best()->loss == least);
}

TEST_CASE("trials that fail are never promoted, and a search in which all fail has no best") {
  Halving search({.trials = 12, .eta = 2, .resources = {1, 2}});
  std::mt19937 random(5);
  const Done done = run(search, 3, random,
                        [](Work work) { return work.trial % 2 == 1 ? kFailed : loss_of(work); });
  for (const auto& [trial, rung] : done) CHECK((rung == 0 || trial % 2 == 0));
  CHECK(count_at(done, 1) >= 6);
  Halving hopeless({.trials = 5, .eta = 2, .resources = {1, 2}});
  CHECK(count_at(run(hopeless, 2, random, [](Work) { return kFailed; }), 1) == 0);
  CHECK(hopeless.finished());
  CHECK_FALSE(hopeless.best().has_value());
}

TEST_CASE("promotions do not wait for a whole rung") {
  Halving search({.trials = 27, .eta = 3, .resources = {1, 3}});
  for (int i = 0; i < 6; ++i) REQUIRE(search.next()->rung == 0);
  for (std::uint32_t trial = 0; trial < 3; ++trial) search.report({{trial, 0}, 1.0 - trial * 0.1});
  CHECK(*search.next() == Work{0, 1});  // the control
  CHECK(*search.next() == Work{2, 1});  // the best of three
  CHECK(search.next()->rung == 0);
}

TEST_CASE("who is heading further goes on, and what is found is judged by its loss") {
  Halving search({.trials = 4, .eta = 3, .resources = {1, 3}});
  while (search.next()) {
  }
  search.report({{0, 0}, 0.5});
  search.report({{1, 0}, 0.2, 0.19});
  search.report({{2, 0}, 0.3, 0.1});
  CHECK(*search.next() == Work{0, 1});
  CHECK(*search.next() == Work{2, 1});
  search.report({{3, 0}, 0.4});
  search.report({{0, 1}, 0.45});
  search.report({{2, 1}, 0.3});
  CHECK(search.best()->work == Work{2, 1});
  CHECK(search.best()->loss == 0.3);
}

TEST_CASE("an exponential curve is followed to where it ends, another no further than it went") {
  const auto loss = [](double rounds) { return 0.2 + std::exp(-rounds / 20); };
  CHECK(outlook({loss(20), loss(30), loss(40)}, 40, 400) == doctest::Approx(loss(400)));
  CHECK(outlook({loss(20), loss(30), loss(40)}, 40, 60) == doctest::Approx(loss(60)));
  CHECK(outlook({0.5, 0.4, 0.4}, 10, 90) == 0.4);
  CHECK(outlook({0.5, 0.5, 0.4}, 10, 90) == 0.4);
  CHECK(outlook({0.9, 0.8, 0.6}, 10, 90) > -4);
  CHECK(outlook({0.5, 0.4, 0.35}, 90, 90) == 0.35);
  CHECK(std::isnan(outlook({0.5, 0.4, std::nan("")}, 10, 90)));
}

TEST_CASE("a result counts only once all before it have ended") {
  Halving search({.trials = 6, .eta = 3, .resources = {1, 3}});
  while (search.next()) {
  }
  for (const std::uint32_t trial : {1U, 2U, 3U, 4U, 5U}) search.report({{trial, 0}, 0.1 * trial});
  CHECK_FALSE(search.next().has_value());
  search.report({{0, 0}, 0.5});
  std::set<std::uint32_t> promoted;
  while (const auto work = search.next()) promoted.insert(work->trial);
  CHECK(promoted == std::set<std::uint32_t>{0, 1, 2});
}

TEST_CASE("a search goes on where its log ends") {
  Halving whole({});
  std::mt19937 random(9);
  std::vector<Outcome> log;
  while (const auto work = whole.next()) {
    log.push_back({*work, loss_of(*work)});
    whole.report(log.back());
  }
  for (const std::size_t kept : {0UL, 1UL, 13UL, 30UL, log.size()}) {
    CAPTURE(kept);
    Halving again = Halving::replay({}, {log.begin(), log.begin() + static_cast<long>(kept)});
    Done done;
    for (std::size_t i = 0; i < kept; ++i) done.emplace(log[i].work.trial, log[i].work.rung);
    done.merge(run(again, 3, random, loss_of));
    CHECK(done.size() == log.size());
    CHECK(again.best()->work == whole.best()->work);
  }
}

TEST_CASE("plans that cannot be are refused") {
  CHECK(check({}).has_value());
  CHECK_FALSE(check({.trials = 0}).has_value());
  CHECK_FALSE(check({.trials = 5, .eta = 1}).has_value());
  CHECK_FALSE(check({.trials = 5, .eta = 2, .resources = {}}).has_value());
  CHECK_FALSE(check({.trials = 5, .eta = 2, .resources = {3, 3}}).has_value());
  CHECK_FALSE(check({.trials = 5, .eta = 2, .resources = {0, 3}}).has_value());
}

const Json kSpace = Json::parse(R"({
  "eta": {"low": 0.001, "high": 1.0, "log": true}, "depth": {"low": 3, "high": 5},
  "rounds": {"low": 1, "high": 1000, "log": true}, "share": {"low": -1, "high": 0.5},
  "booster": ["gbtree", "dart", 3, true]})");

TEST_CASE("points lie in the space, all of it, as likely as said") {
  const Space space = *parse_space(kSpace);
  std::map<std::string, int> seen;
  constexpr int kPoints = 6000;
  for (std::uint32_t trial = 0; trial < kPoints; ++trial) {
    const Json point = draw(space, 42, trial);
    const double eta = point["eta"];
    const std::int64_t rounds = point["rounds"];
    REQUIRE((eta >= 0.001 && eta <= 1));
    REQUIRE((rounds >= 1 && rounds <= 1000));
    REQUIRE((point["share"] >= -1.0 && point["share"] <= 0.5));
    ++seen["depth " + point["depth"].dump()];
    ++seen["booster " + point["booster"].dump()];
    if (eta < 0.01) ++seen["first decade"];
  }
  CHECK(seen.size() == 3 + 4 + 1);
  for (const auto& [what, count] : seen) {
    CAPTURE(what);
    const double expected = what.starts_with("booster") ? kPoints / 4.0 : kPoints / 3.0;
    CHECK(count == doctest::Approx(expected).epsilon(0.1));
  }
}

TEST_CASE("a point hangs on seed and number alone, and parameters do not touch each other") {
  const Space space = *parse_space(kSpace);
  CHECK(draw(space, 1, 5) == draw(space, 1, 5));
  CHECK(draw(space, 1, 5) != draw(space, 1, 6));
  CHECK(draw(space, 1, 5) != draw(space, 2, 5));
  Json more = kSpace;
  more["another"] = {1, 2};
  CHECK(draw(*parse_space(more), 1, 5)["eta"] == draw(space, 1, 5)["eta"]);
}

TEST_CASE("the place of a value is where it is drawn from") {
  const Space space = parse_space(Json::parse(R"({"eta": {"low": 0.01, "high": 0.3, "log": true},
      "depth": {"low": 2, "high": 10}, "kind": ["a", 3, true]})"))
                          .value();
  for (const Parameter& parameter : space) {
    for (double share = 0.001; share < 1; share += 0.013) {
      const Json value = value_at(parameter, share);
      const auto place = share_of(parameter, value);
      REQUIRE(place.has_value());
      const Json again = value_at(parameter, *place);
      if (value.is_number_float()) {
        CHECK(again.get<double>() == doctest::Approx(value.get<double>()));
      } else {
        CHECK(again == value);
      }
    }
    CHECK_FALSE(share_of(parameter, Json("b")).has_value());
    CHECK_FALSE(share_of(parameter, Json(4711)).has_value());
    CHECK_FALSE(share_of(parameter, Json()).has_value());
  }
}

TEST_CASE("what earlier trials suggest is better than what is drawn") {
  const Space space = parse_space(Json::parse(R"({"eta": {"low": 0.001, "high": 1, "log": true},
      "depth": {"low": 1, "high": 40}, "kind": ["a", "b", "c", "d"]})"))
                          .value();
  const auto loss_at = [](const Json& point) {
    const double eta = std::log10(point["eta"].get<double>()) + 0.9;  // of three decades
    const double depth = (point["depth"].get<double>() - 9) / 40;
    return eta * eta / 9 + depth * depth + (point["kind"] == "c" ? 0 : 0.1);
  };
  std::vector<double> drawn;
  std::vector<double> proposed;
  constexpr std::uint64_t kSearches = 101;
  for (std::uint64_t seed = 0; seed < kSearches; ++seed) {
    std::vector<Observation> seen;
    double best_drawn = 1e9;
    for (std::uint32_t number = 1; number <= 60; ++number) {
      Json point = propose(space, seed, number, seen);
      CHECK(point == propose(space, seed, number, seen));
      if (number <= kLeastObservations) CHECK(point == draw(space, seed, number));
      for (const Parameter& parameter : space)
        REQUIRE(share_of(parameter, point[parameter.name]).has_value());
      best_drawn = std::min(best_drawn, loss_at(draw(space, seed, number)));
      const double loss = number % 10 == 7 ? kFailed : loss_at(point);
      seen.push_back({.point = std::move(point), .loss = loss});
    }
    double best = 1e9;
    for (const Observation& one : seen)
      if (!std::isnan(one.loss)) best = std::min(best, one.loss);
    drawn.push_back(best_drawn);
    proposed.push_back(best);
  }
  const auto mean = [](const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  };
  CHECK(mean(proposed) < 0.75 * mean(drawn));
  std::ranges::sort(drawn);
  std::ranges::sort(proposed);
  CHECK(proposed[kSearches / 2] < drawn[kSearches / 2] / 3);
}

TEST_CASE("points of elsewhere suggest nothing, and harm nothing") {
  const Space space = parse_space(Json::parse(R"({"eta": {"low": 0.1, "high": 1}})")).value();
  std::vector<Observation> seen;
  for (int i = 0; i < 30; ++i)
    seen.push_back({.point = Json{{i % 2 == 0 ? "other" : "eta", "much"}}, .loss = 1.0 * i});
  for (std::uint32_t number = 0; number < 50; ++number) {
    const double eta = propose(space, 1, number, seen)["eta"].get<double>();
    CHECK(eta >= 0.1);
    CHECK(eta <= 1);
  }
}

TEST_CASE("a space goes through its JSON unchanged, and what is none is refused by name") {
  const Space space = *parse_space(kSpace);
  CHECK(*parse_space(to_json(space)) == space);
  const std::pair<const char*, const char*> cases[] = {
      {R"({"a": 1})", "'a'"},
      {R"({"a": []})", "choices"},
      {R"({"a": [[1]]})", "choices"},
      {R"({"a": {"low": 1}})", "must be like"},
      {R"({"a": {"low": 2, "high": 1}})", "below"},
      {R"({"a": {"low": 0, "high": 1, "log": true}})", "above 0"},
      {R"({"a": {"low": 0, "high": 1, "step": 2}})", "'step'"},
      {R"({"a": {"low": -1e308, "high": 1.5e308}})", "too wide"},
      {R"([1])", "table"},
  };
  for (const auto& [text, word] : cases) {
    CAPTURE(text);
    const auto refused = parse_space(Json::parse(text));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().message.find(word) != std::string::npos);
  }
}

}  // namespace
}  // namespace mayfly::search
